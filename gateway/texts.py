"""What clients are told, in every language: one catalogue."""

from typing import Final, Literal

Language = Literal["en", "ja"]

TEXTS: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "REFUSE:request": "This request was refused under your organisation's policy{domain}.",
        "REFUSE:response": "The action that the model proposed was refused under your organisation's policy{domain}.",
        "ESCALATE:request": "This request needs a human's decision under your organisation's policy{domain}.",
        "ESCALATE:response": "The action that the model proposed needs a human's decision under your organisation's "
        "policy{domain}.",
        "too_many_cases": "Too many cases of this key wait for a decision already, so no other was opened and nothing "
        "was passed on. Try again once some are decided.",
        "pending": "The people who decide have been asked. Send the same request again to get the result.",
        "denied:request": "A reviewer denied this request{domain}.",
        "denied:response": "A reviewer denied the action that the model proposed{domain}.",
        "expired:due": "Nobody decided in time{domain}. That is not a denial; nothing was passed on.",
        "expired:unused": "It was approved{domain}, but the approval expired before it was used. Nothing was passed "
        "on.",
        "expired:unreachable": "Nobody who could decide was reached{domain}. That is not a denial; nothing was passed "
        "on.",
        "withdrawn": "The question to the reviewers was withdrawn{domain}. Nothing was passed on.",
        "withdrawn:policy_changed": "The organisation's policy changed after this was asked{domain}, so it must be "
        "asked anew: send the request again.",
        "failed": "This was approved, but the upstream could not be reached and nothing was executed. Send the request "
        "again to ask anew.",
        "outcome_unknown": "This was approved and passed on, but it is not known whether it was executed. It is not "
        "tried again by itself: a human must look into it.",
        "domain": " (domain: {domain})",
        "reference": "Reference: {id}",
        "case": "Case: {id}",
        "space": " ",
    },
    "ja": {
        "REFUSE:request": "このリクエストは、組織のポリシーにより拒否されました{domain}。",
        "REFUSE:response": "モデルが提案した操作は、組織のポリシーにより拒否されました{domain}。",
        "ESCALATE:request": "このリクエストには、組織のポリシーにより人による判断が必要です{domain}。",
        "ESCALATE:response": "モデルが提案した操作には、組織のポリシーにより人による判断が必要です{domain}。",
        "too_many_cases": "このキーには判断待ちの案件がすでに多すぎるため、新しい案件は作成されず、"
        "何も引き渡していません。いくつか判断された後に、もう一度お試しください。",
        "pending": "担当者に判断を依頼しました。同じリクエストをもう一度送信すると、結果を受け取れます。",
        "denied:request": "担当者がこのリクエストを却下しました{domain}。",
        "denied:response": "担当者が、モデルの提案した操作を却下しました{domain}。",
        "expired:due": "期限までに判断が下されませんでした{domain}。却下ではありません。何も引き渡していません。",
        "expired:unused": "承認されましたが{domain}、使用される前に承認の期限が切れました。何も引き渡していません。",
        "expired:unreachable": "判断できる担当者に連絡がつきませんでした{domain}。却下ではありません。"
        "何も引き渡していません。",
        "withdrawn": "担当者への判断の依頼は取り下げられました{domain}。何も引き渡していません。",
        "withdrawn:policy_changed": "依頼の後に組織のポリシーが変わったため{domain}、改めて判断が必要です。"
        "リクエストをもう一度送信してください。",
        "failed": "承認されましたが、接続先に到達できず、何も実行されませんでした。"
        "改めて判断を求めるには、リクエストをもう一度送信してください。",
        "outcome_unknown": "承認されて引き渡されましたが、実行されたかどうか分かりません。"
        "自動では再試行されません。人による確認が必要です。",
        "domain": "(分野: {domain})",
        "reference": "照会番号: {id}",
        "case": "案件番号: {id}",
        "space": "",
    },
}
