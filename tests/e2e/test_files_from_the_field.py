"""Files and addresses as clients send them, through the whole pipeline."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from tests.support.grey_pictures import a_16_bit_png
from tests.support.pipeline import Pipeline, metadata, small_pdf, wait_for
from tests.support.rendering import encoded

WARNING = b"<br />\n<b>Warning</b>:  Undefined variable in <b>/srv/a.php</b> on line <b>3</b><br />\n"


@pytest.mark.parametrize(
    ("content", "media_type", "name", "download"),
    [
        (WARNING + small_pdf("field"), "application/x-download", "Relevé.hta", "Releve.pdf"),
        (encoded(Image.new("RGB", (400, 300), "red"), "JPEG")[:-2], "image/pjpeg", "photo.jfif", "photo.jfif"),
        (a_16_bit_png(0), "image/png", "身分証.png", "ShenFenZheng.png"),
    ],
    ids=["pdf", "jpeg", "png"],
)
def test_a_file_has_its_thumbnail_and_its_name(
    pipeline: Pipeline, content: bytes, media_type: str, name: str, download: str
) -> None:
    said = metadata(pipeline.dossier(), "DIVERS")
    taken = pipeline.upload(content, said, name=name, media_type=media_type)
    assert taken["file_name"] == name
    pipeline.reaches(taken["id"], "VERIFIED")
    wait_for(lambda: "THUMBNAILS_READY" in pipeline.timeline(taken["id"]), "thumbnails", 30)
    thumbnail = Image.open(io.BytesIO(pipeline.get(taken["id"], "/thumbnail").content))
    assert max(thumbnail.size) == 256 or media_type == "application/x-download"
    served = pipeline.get(taken["id"], "/content")
    assert served.content == content
    assert f'filename="{download}"' in served.headers["content-disposition"]


def test_a_mail_goes_to_a_domain_in_letters(pipeline: Pipeline) -> None:
    depositor = {"email": "jean@münchen.example", "language": "fr"}
    taken = pipeline.upload(small_pdf("letters"), metadata(pipeline.dossier(), "DIVERS", depositor=depositor))
    wait_for(lambda: pipeline.mails(taken["id"]), "the receipt", 30)
    assert {mail.to for mail in pipeline.mails(taken["id"])} == {"jean@xn--mnchen-3ya.example"}
