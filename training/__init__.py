"""From labelled rows to a release that the gateway verifies and loads."""
