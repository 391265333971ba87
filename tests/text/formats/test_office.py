"""Word and OpenDocument files give the text that their reader sees."""

import zipfile
from pathlib import Path

import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text.readers import read_documents

WORD = """<w:document xmlns:w="w" xmlns:mc="m"><w:body>
<w:p><w:pPr><w:tabs><w:tab w:val="left"/></w:tabs></w:pPr>
<w:r><w:t>One </w:t></w:r><w:r><w:t>two</w:t><w:tab/><w:t>三</w:t></w:r>
</w:p>
<w:p/>
<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:ins><w:r><w:t>new</w:t></w:r></w:ins>
<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r><w:r><w:rPr><w:vanish w:val="0"/></w:rPr><w:t>, seen</w:t></w:r>
<w:r><w:instrText>PAGE</w:instrText></w:r>
<w:hyperlink><w:r><w:t>, link</w:t><w:noBreakHyphen/><w:t>x</w:t></w:r></w:hyperlink></w:p>
<w:p><mc:AlternateContent><mc:Choice><w:r><w:t>box</w:t></w:r></mc:Choice><mc:Fallback><w:r><w:t>box</w:t></w:r>
</mc:Fallback></mc:AlternateContent><w:r><w:ruby><w:rt><w:r>
<w:t>しず</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>静</w:t></w:r>
</w:rubyBase></w:ruby></w:r></w:p>
<w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>b</w:t></w:r></w:p></w:tc></w:tr>
<w:tr><w:tc><w:p><w:r><w:t>c</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>d</w:t></w:r></w:p></w:tc></w:tr></w:tbl>
</w:body></w:document>"""
NOTES = """<w:footnotes xmlns:w="w"><w:footnote w:type="separator"><w:p><w:r><w:t>--</w:t></w:r></w:p></w:footnote>
<w:footnote w:id="1"><w:p><w:r><w:t>A note.</w:t></w:r></w:p></w:footnote></w:footnotes>"""
OPEN = """<d xmlns:text="t" xmlns:table="b"><body><text:tracked-changes><text:p>gone</text:p></text:tracked-changes>
<text:h>Title</text:h><text:p>One
  two<text:s text:c="3"/>three<text:note><text:note-citation>1</text:note-citation><text:note-body>
<text:p>A note.</text:p>
</text:note-body></text:note><text:line-break/>four</text:p>
<table:table><table:table-row><table:table-cell><text:p>a</text:p>
</table:table-cell><table:table-cell><text:p>b</text:p></table:table-cell></table:table-row></table:table></body></d>"""


def write(path: Path, **members: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def read(path: Path) -> str:
    documents = list(read_documents([str(path)], Read(), []))
    assert len(documents) == 1
    return documents[0].text


def test_word_document_gives_what_is_seen(tmp_path: Path) -> None:
    path = write(tmp_path / "a.docx", **{"word/document.xml": WORD, "word/footnotes.xml": NOTES})
    assert read(path) == "One two\t三\n\nnew, seen, link-x\n\nbox静\n\na\tb\nc\td\n\nA note.\n"


def test_word_document_is_one_whatever_its_name(tmp_path: Path) -> None:
    for name in ("a.txt", "b.zip", "c", "d.csv"):
        assert read(write(tmp_path / name, **{"word/document.xml": WORD})).startswith("One two")


def test_open_document_gives_what_is_seen(tmp_path: Path) -> None:
    path = write(tmp_path / "a.odt", **{"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": OPEN})
    assert read(path) == "Title\n\nOne two   three\nfour\n\na\tb\n\nA note.\n"


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"word/document.xml": WORD[:-40]}, "damaged or cut off"),
        ({"word/document.xml": "<!DOCTYPE a><a/>"}, "document type declaration"),
        ({"x.xml": "a"}, "word/document.xml is missing"),
        (
            {
                "mimetype": "application/vnd.oasis.opendocument.text",
                "META-INF/manifest.xml": "<a><encryption-data/></a>",
                "content.xml": "x",
            },
            "with a password",
        ),
    ],
)
def test_document_that_cannot_be_read_says_why(tmp_path: Path, members: dict[str, str], problem: str) -> None:
    path = write(tmp_path / "a.docx", **members)
    if problem.endswith("is missing"):
        path = tmp_path / "b.docx"
        path.write_text("plain text")
        problem = "not a zip file"
    with pytest.raises(DataError, match=problem):
        read(path)


def test_formulas_and_superscripts_of_word_do_not_join_the_number_before(tmp_path: Path) -> None:
    def run(text: str, script: str = "") -> str:
        properties = f'<w:rPr><w:vertAlign w:val="{script}"/></w:rPr>' if script else ""
        return f"<w:r>{properties}<w:t>{text}</w:t></w:r>"

    power = f"<sSup><e><d><e>{run('x+1')}</e></d></e><sup>{run('2')}</sup></sSup>"
    index = f"<sSub><e>{run('a')}</e><sub>{run('ij')}</sub></sSub>"
    quotient = f"<f><num>{run('a+1')}</num><den><rad><deg/><e>{run('2')}</e></rad></den></f>"
    text = (
        run("10 m")
        + run("2", "superscript")
        + run(" H")
        + run("2", "subscript")
        + run("O 1")
        + run("st", "superscript")
    )
    body = f"<w:p>{text}</w:p><w:p>{power}{run('=')}{index}{run('=')}{quotient}</w:p>"
    path = write(
        tmp_path / "a.docx", **{"word/document.xml": f'<w:document xmlns:w="w"><w:body>{body}</w:body></w:document>'}
    )
    assert read(path) == "10 m² H₂O 1st\n\n(x+1)²=a_(ij)=(a+1)/(√2)\n"


def test_superscripts_and_hidden_text_of_open_document_are_what_is_seen(tmp_path: Path) -> None:
    def style(name: str, properties: str, parent: str = "", family: str = "text") -> str:
        inherited = f' s:parent-style-name="{parent}"' if parent else ""
        inner = f"<s:text-properties {properties}/>"
        return f'<s:style s:name="{name}" s:family="{family}"{inherited}>{inner}</s:style>'

    automatic = (
        style("T1", 's:text-position="super 58%"') + style("T2", 's:text-position="-33% 58%"')
        + style("T3", 's:font="x"', "Mark") + style("T4", 't:display="none"') + style("T5", 's:text-position="0% 100%"')
        + style("T5", 's:text-position="super 58%"', family="paragraph")
    )  # fmt: skip
    mark = style("Mark", 's:text-position="33% 58%"')
    named = f'<d xmlns:s="s" xmlns:t="t"><styles>{mark}</styles></d>'

    def span(name: str, text: str) -> str:
        return f'<t:span t:style-name="{name}">{text}</t:span>'

    text = (
        f"in 1931{span('T1', '2')}, a word{span('T3', '12')} and H{span('T2', '2')}O, 1{span('T1', 'st')}, "
        f"a{span('T1', '2' + span('T5', '3'))}{span('T4', 'secret')} 5{span('T5', '6')}"
        + span("T1", "<t:note><t:note-citation>1</t:note-citation><t:p>7 boats</t:p></t:note>9")
    )
    content = f'<d xmlns:s="s" xmlns:t="t"><styles>{automatic}</styles><body><t:p>{text}</t:p></body></d>'
    members = {"mimetype": "application/vnd.oasis.opendocument.text", "styles.xml": named, "content.xml": content}
    assert read(write(tmp_path / "a.odt", **members)) == "in 1931², a word¹² and H₂O, 1st, a²3 56⁹\n\n7 boats\n"
