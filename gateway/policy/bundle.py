"""A bundle: the policies of all organisations over one base, read from a directory at once or not at all."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import rfc8785

from gateway.errors import PolicyError
from gateway.policy.document import Policy, read_policy
from gateway.policy.merge import EffectivePolicy, merge
from gateway.policy.source import MAX_BYTES

BASE_NAME: Final = "base.yaml"
TABLE_SUFFIX: Final = "_test.yaml"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What holds for whom. ``paths`` says which file each organisation's policy came from."""

    base: EffectivePolicy
    policies: Mapping[str, EffectivePolicy]
    paths: Mapping[str, str]

    def policy(self, organization: str) -> EffectivePolicy:
        """Return the policy of ``organization``; the base for one without a file."""
        return self.policies.get(organization, self.base)

    @property
    def revision(self) -> str:
        """Of the whole: ``sha256:`` and the digest of all revisions."""
        revisions = {name: policy.revision for name, policy in self.policies.items()}
        content: dict[str, Any] = {"base": self.base.revision, "policies": revisions}
        return f"sha256:{sha256(rfc8785.dumps(content)).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Files:
    """The bytes of a base and of policy files, by the path that problems are told with, all read at one time."""

    base: tuple[str, bytes]
    policies: Mapping[str, bytes]


def load_bundle(directory: Path | None, base: Path | None = None) -> Bundle:
    """Return the bundle in ``directory``; without one, the base alone. ``base`` stands in for the packaged base.

    Raises PolicyError: with the problems of all files.
    """
    return build_bundle(read_files([directory] if directory is not None else [], base))


def read_files(paths: Iterable[Path], base: Path | None = None) -> Files:
    """Return the policy files in ``paths`` (files, or directories: their ``*.yaml`` but ``*_test.yaml``).

    Raises PolicyError: a file cannot be read, or would be passed over silently.
    """
    found: dict[str, bytes] = {}
    problems: list[str] = []
    for path in paths:
        try:
            for file in _policy_files(path, problems):
                found[str(file)] = _read(file)
        except OSError as error:
            problems.append(f"{error.filename or path}:1:1: cannot be read: {error.strerror}; check path and rights")
    try:
        own = (
            (str(base), _read(base)) if base else (BASE_NAME, files("gateway.policy").joinpath(BASE_NAME).read_bytes())
        )
    except OSError as error:
        problems.append(f"{base}:1:1: cannot be read: {error.strerror}; check path and rights")
    if problems:
        raise PolicyError(tuple(problems))
    return Files(own, MappingProxyType(found))


def _policy_files(path: Path, problems: list[str]) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = []
    for file in sorted(path.iterdir()):
        if file.name.startswith(".") or file.is_dir() or file.name.endswith(TABLE_SUFFIX):
            continue
        if file.suffix == ".yaml":
            found.append(file)
        elif file.suffix.lower() in (".yml", ".yaml"):
            problems.append(f"{file}:1:1: only files named `*.yaml` are read; rename it to `{file.stem}.yaml`")
    return found


def _read(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(MAX_BYTES + 1)


def build_bundle(found: Files) -> Bundle:
    """Return the bundle of files that are read.

    Raises PolicyError: with the problems of all files.
    """
    base = read_policy(found.base[1], found.base[0], base=True)
    effective = merge(base)
    problems: list[str] = []
    policies: dict[str, Policy] = {}
    merged: dict[str, EffectivePolicy] = {}
    for name, data in found.policies.items():
        try:
            policy = read_policy(data, name)
            if (first := policies.setdefault(policy.name, policy)) is not policy:
                what = f"`{policy.name}` has a policy already, in {first.source.file}; keep one"
                problems.append(str(policy.source.problem(("organization",), what)))
            merged[policy.name] = merge(base, policy)
        except PolicyError as error:
            problems += error.problems
    if problems:
        raise PolicyError(tuple(problems))
    paths = {name: policy.source.file for name, policy in policies.items()}
    return Bundle(effective, MappingProxyType(merged), MappingProxyType(paths))
