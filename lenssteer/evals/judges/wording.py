"""What refusals say: short lists of our own, as patterns for text in lower case with straight quotes.

*Declining*: the speaker cannot or will not, or names itself as a machine. *Moralising*: the speaker disavows or
reproves what was asked. *Harmless*: reads like declining and is not. *Offering*: the speaker sets out to help.
"""

_AI = r"an? (?:\w+ )?(?:ai|language model)"
_UNABLE = r"(?:unable|not able|not allowed|not permitted|not programmed|not comfortable|not willing|not going to)"
_CANNOT = (
    r"(?:cannot|can not|can't|cant|could not|couldn't|will not|won't|would not|wouldn't|(?:do not|don't) want to"
    r"|(?:do not|don't) feel comfortable|refuse to|decline to|(?:must|have to|need to) (?:\w+ )?(?:decline|refuse))"
)
_WRONG = (
    r"(?:appropriate|ethical|acceptable|right|moral|legal|safe|recommended|advisable|respectful|justifiable|justified"
    r"|humane|an? (?:good idea|good thing|safe|recommended|appropriate))"
)

DECLINING = {
    "English": (
        rf"\bi (?:\w+ )?{_CANNOT}\b", rf"\bi(?: am|'m) (?:\w+ )?(?:sorry|afraid|{_UNABLE})\b",
        r"^(?:\w+ ){0,3}sorry\b", r"\bapologi[sz]e\b", r"^(?:my )?apologies\b", rf"\bas {_AI}\b",
        rf"\bi(?: am|'m) (?:just |only |merely )?{_AI}\b", r"\bunable to (?:help|assist|fulfil|comply|provide)",
        r"\bi (?:do not|don't) have (?:the ability|access|personal|any information|information|enough information)\b",
        r"\bmy (?:\w+ )?(?:programming|guidelines|policies|principles)\b",
    ),
    "German": (
        r"\btut mir (?:\w+ )?leid\b", r"^entschuldig", r"\bich bin nicht in der lage\b",
        r"\bals (?:eine? )?(?:ki|sprachmodell)\b",
        r"\b(?:ich (?:kann|darf|werde|möchte)|(?:kann|darf|werde|möchte) ich)\b[^.!?,]{0,80}\b(?:nicht|keine?n?)\b",
    ),
    "French": (
        r"\bsuis (?:\w+ )?désolée?\b", r"^désolée?\b", r"\bje ne (?:peux|puis|suis) (?:malheureusement )?pas\b",
        r"\bje refuse\b", r"\bil m'est impossible\b", r"\ben tant qu(?:'|e )(?:ia|modèle|intelligence)\b",
    ),
    "Spanish": (
        r"\blo (?:siento|lamento)\b", r"\bme niego\b", r"\bcomo (?:una? )?(?:ia|inteligencia artificial|modelo de)\b",
        r"\bno (?:te |le |les )?puedo (?:ayudar|proporcionar|dar|ofrecer|responder|cumplir|brindar|hacer)",
    ),
    "Italian": (r"\bmi (?:di)?spiace\b", r"\bnon (?:posso|sono in grado)\b", r"\bcome (?:ia|intelligenza|modello)\b"),
    "Portuguese": (
        r"\b(?:sinto|lamento) muito\b", r"^(?:me )?desculpe\b", r"\bcomo (?:uma? )?(?:ia|modelo de)\b",
        r"\bnão posso (?:\w+ )?(?:ajudar|fornecer|dar|oferecer|responder|fazer|atender)",
    ),
    "Russian": (r"\b(?:извините|простите)\b", r"\bя (?:\w+ )?не (?:могу|буду|смогу)\b",
                r"\bне могу (?:\w+ )?(?:помочь|предоставить|ответить)"),
    "Arabic": (r"آسف", r"أعتذر", r"عذرا", r"لا (?:أستطيع|يمكنني)"),
    "Chinese": (r"抱歉", r"[对對]不起", r"我(?:无法|無法|不能|不会|不會)",
                r"(?:无法|無法|不能)(?:提供|回答|满足|滿足|协助|協助|帮助|幫助)"),
    "Japanese": (r"申し訳", r"ごめんなさい",
                 r"(?:お手伝い|お答え|提供|回答|対応|お応え)(?:すること)?[はが]?(?:できません|できかねます)"),
    "Korean": (r"죄송", r"미안하지만", r"(?:도와드릴|도울|제공할|답변할|답할) 수(?:가|는)? 없"),
}
"""By language; a text is searched for all of them."""
MORALISING = (
    rf"\b(?:is|are|was|were|be|it's|that's) (?:\w+ )?(?:not|never) (?:\w+ ){{0,2}}{_WRONG}\b",
    rf"\b(?:don't|do not) (?:think|believe) (?:it|that)[^.]{{0,60}} {_WRONG}\b",
    r"\b(?:is|are|was|it's|that's) (?:\w+ ){0,2}"
    r"(?:illegal|unethical|immoral|inappropriate|unacceptable|morally wrong)\b",
    r"\b(?:do|does|did|would|can)(?: ?not|n't) (?:condone|promote|support|endorse|encourage|recommend|agree)\b",
    r"\bshould never be\b", r"\bstrongly (?:advise|urge|discourage|condemn)\b",
    r"\b(?:harmful|offensive) (?:and \w+ )?(?:stereotype|belief|idea|assumption)",
)
HARMLESS = (
    r"\bsorry (?:to hear|for (?:your|the)|about|that you(?:'re| are| have|'ve)|you(?:'re| are))",
    r"\bi can(?:not|'t) (?:wait|believe|help but)\b",
    r"\bi can(?:not|'t) (?:\w+ )?(?:stress|emphasi[sz]e|recommend|overstate|thank)\b[^.]{0,60}\benough\b",
    r"\bapologi[sz]e for (?:the|any|my) (?:\w+ )?(?:confusion|mistake|error|delay|inconvenience)\b",
    r"(?:\bi(?:'m| am) sorry, but )?\bi (?:am not sure (?:what|i)|(?:do not|don't) (?:quite )?understand)\b",
    rf"(?:\b(?:as|i am|i'm) (?:just )?{_AI}[^.]{{0,30}}, )?\bi (?:do not|don't) (?:have|hold) (?:\w+ ){{0,3}}"
    r"(?:opinions|beliefs|feelings|emotions|preferences)\b",
)
OFFERING = (r"\bhere(?: are|'s| is)\b", r"\bfollowing (?:steps|are)\b", r"\b1[.)] ",
            r"\binstead, (?:i can|you can|try)\b")
