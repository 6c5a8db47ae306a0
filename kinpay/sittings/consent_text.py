"""What a person reads before their face is kept, word for word, in both languages. Pure.

A text is never changed: a new wording is a new version, and a consent says which one was read, by its hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from kinpay.primitives.errors import Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentText:
    """A wording in one language."""

    version: str
    language: str
    text: str

    @property
    def digest(self) -> bytes:
        """SHA-256 of the text, as it was shown."""
        return hashlib.sha256(self.text.encode()).digest()


VERSION: Final = "1"

_TEXTS: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {
        ("1", "zh"): (
            "同意用人脸付款\n"
            "1. 我们用摄像头拍摄几张照片，当场算出一组数字（特征模板），随即丢弃照片；不保存照片。\n"
            "2. 特征模板加密保存，只用来在本运营方的终端上认出您、由为您付款的人付款；不作他用，不提供给他人。\n"
            "3. 认脸可能出错，也可能被录像或面具欺骗，因此有金额限制，并可能要求您输入密码、出示付款码或卡片。\n"
            "4. 不同意也可以：付款码和卡片照常使用，没有任何不便。\n"
            "5. 您可以随时撤回，模板立即销毁，并得到回执；卡片和付款码继续有效。\n"
            "6. 未成年人的人脸，须由为其付款的成年人先单独同意，该成年人也可以随时撤回。"
        ),
        ("1", "en"): (
            "Consent to paying with your face\n"
            "1. The camera takes a few pictures, a set of numbers (a template) is computed from them at once, and the pictures "
            "are thrown away. No picture is kept.\n"
            "2. The template is kept encrypted and serves only to recognise you at this operator's terminals, so that whoever "
            "pays for you is debited. It serves nothing else and is given to nobody.\n"
            "3. Recognising a face can err, and can be deceived by a recording or a mask. Therefore amounts are limited, and "
            "you may be asked for a PIN, a code or a card.\n"
            "4. You need not agree: codes and cards work as before, without any disadvantage.\n"
            "5. You may withdraw at any time. The template is destroyed at once and you get a receipt; card and codes go on "
            "working.\n"
            "6. For the face of a minor the adult who pays for them has to consent first, separately, and may withdraw, too."
        ),
    }
)


def consent_text(language: str, version: str = VERSION) -> ConsentText:
    """The wording of a version. Raises: Invalid for a language or version that there is none of."""
    text = _TEXTS.get((version, language))
    if text is None:
        raise Invalid("consent_text_unknown", field="consent")
    return ConsentText(version=version, language=language, text=text)


def current(language: str, version: str) -> ConsentText:
    """The wording that consents are given to now. Raises: Invalid where an older one was read: it is to be read anew."""
    if version != VERSION:
        raise Invalid("consent_text_outdated", field="consent.version", version=VERSION)
    return consent_text(language, version)
