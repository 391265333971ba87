"""The text of a page is the text that its reader sees."""

import time

import pytest

from llmkit.text.formats.html_text import html_to_text


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("<ruby>静<rt>しず</rt></ruby>か", "静か"),
        ("<ruby>東<rp>(</rp><rt>とう<rp>)</rp>京<rp>(</rp><rt>きょう<rp>)</rp></ruby>", "東京"),
        ("<ruby><rb>漢<rb>字<rt>かん<rt>じ</ruby>へ", "漢字へ"),
        ("<ruby>明日<rp>（</rp><rt>míng rì</rt><rp>）</rp></ruby>", "明日"),
    ],
)
def test_the_reading_of_ruby_is_left_out_and_its_base_stays(page: str, seen: str) -> None:
    assert html_to_text(page) == seen + "\n"


def test_soft_hyphens_are_left_out_in_every_spelling() -> None:
    assert html_to_text("<p>Unter&shy;neh\xadmen&#173;s&#xAD;teuer su<wbr>per") == "Unternehmensteuer super\n"


@pytest.mark.parametrize(
    "element",
    [
        "<span hidden>SECRET</span>",
        '<div hidden="until-found"><p hidden>a</p>SECRET</div>',
        '<b style="color:red; DISPLAY : none !important">SECRET</b>',
        '<b style="visibility:hidden">SECRET</b>',
        "<template><p>SECRET</p></template>",
        "<dialog>SECRET</dialog>",
        "<noscript>SECRET</noscript>",
        "<textarea>SECRET</textarea>",
        "<select><option>SECRET<option>SECRET2</select>",
        "<svg><title>SECRET</title><text>SECRET</text></svg>",
        '<input type="hidden" value="SECRET">',
        '<img alt="SECRET" src="x.png">',
        "<video>SECRET</video>",
        "<!-- SECRET --><![CDATA[ SECRET ]]>",
    ],
)
def test_hidden_elements_are_left_out(element: str) -> None:
    assert html_to_text(f"<p>before {element}after</p>").split() == ["before", "after"]


def test_visible_elements_stay_whatever_their_attributes_are() -> None:
    styled = '<p style="background:url(x;display:none)">three</p>'
    page = f'<p aria-hidden="true">one</p><dialog open>two</dialog>{styled}<del>four</del>'
    assert html_to_text(page).split() == ["one", "two", "three", "four"]


@pytest.mark.parametrize("page", ["<body hidden><p>text</body>", '<div style="display:none">text</div>'])
def test_a_page_that_is_all_hidden_until_its_script_runs_is_read(page: str) -> None:
    assert html_to_text(page) == "text\n"


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("1931<sup>2</sup>", "1931²"),
        ("m<sup>2</sup>, x<sup>n+1</sup>, 10<sup>&minus;9</sup>", "m², xⁿ⁺¹, 10⁻⁹"),
        ("H<sub>2</sub>O", "H₂O"),
        ("1<sup>st</sup> M<sup>lle</sup>", "1st Mlle"),
        ('1931<sup><a href="#fn2">2</a></sup>.', "1931."),
        ('1931<a href="notes.xhtml#n2"><sup>2</sup></a>.', "1931."),
        ('1931<sup class="reference" id="cite_ref-1"><a href="#cite_note-1">[1]</a></sup>.', "1931."),
        ('1931<a epub:type="noteref" href="n.xhtml#n1">1</a>.', "1931."),
        ('dit<a class="footnote-ref" href="#fn:1" role="doc-noteref">*</a>', "dit"),
        (
            'word<a href="#Footnote_1" class="fnanchor">[1]</a> and <span class="pagenum">[Pg 12]</span>more',
            "word and more",
        ),
        ("Smith<sup>1,2</sup>, Jones<sup>†</sup>, SO<sub>4</sub><sup>2&minus;</sup>", "Smith¹,², Jones†, SO₄²⁻"),
        ('(<a href="#ref2">2</a>) and [<a href="#ref3">3</a>]', "(2) and [3]"),
        ('قال<sup><a href="#fn1">١</a></sup>.', "قال."),
        ('see note <a href="#fn3">3</a>', "see note 3"),
        ('page <a href="p2.html">2</a>', "page 2"),
    ],
)
def test_marks_of_footnotes_are_left_out_and_other_raised_numbers_stay_apart(page: str, seen: str) -> None:
    assert html_to_text(f"<p>{page}</p>") == seen + "\n"


def test_preformatted_text_keeps_tabs_spaces_and_lines() -> None:
    page = "<pre>\nif x:\n\tif y:\n\t\treturn  1<br>end <b>b</b>\n</pre><p>a\tb"
    assert html_to_text(page) == "if x:\n\tif y:\n\t\treturn  1\nend b\n\na b\n"


def test_blocks_end_lines_and_cells_are_apart() -> None:
    page = "<div>a</div>b<details><summary>c</summary>d</details><table><tr><th>e<td>f<tr><td>g</table><label>h</label>"
    assert html_to_text(page) == "a\nb\nc\nd\n\ne f\ng\n\nh\n"


def test_entities_are_decoded_as_browsers_do() -> None:
    assert (
        html_to_text("<p>It&#146;s &#x93;x&#148; &euro;&amp;lt; &#20320;&nbsp;&unknown;")
        == "It’s “x” €&lt; 你\xa0&unknown;\n"
    )


def test_xhtml_may_have_cdata_and_empty_elements() -> None:
    head = '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head>'
    assert html_to_text(f"{head}<body><p>a<![CDATA[<b>&c]]><a id='x'/>d</p></body></html>") == "a<b>&cd\n"


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("<p dir=rtl>שלום&rlm; <b>עולם</b></p>", "שלום\u200f עולם"),
        ("<p>Er sagte <q>ja</q>.</p>", "Er sagte “ja”."),
        ("<math><mi>x</mi><mo>=</mo><mn>2</mn><annotation>tex</annotation></math>", "x=2"),
        ("<p>unclosed <b>bold<p>next</b> x", "unclosed bold\n\nnext x"),
        ("", ""),
    ],
)
def test_pages_of_other_kinds_read_as_they_look(page: str, seen: str) -> None:
    assert html_to_text(page).strip("\n") == seen


def test_deep_nesting_of_what_is_removed_takes_no_time() -> None:
    start = time.perf_counter()
    assert html_to_text("<div hidden>" * 3000 + "x" + "</div>" * 3000 + "y") == "y\n"
    assert html_to_text('<div class="a">' * 5000 + "x " * 50_000) == "x " * 49_999 + "x\n"
    assert html_to_text("<sup>" * 3000 + "2") == "²\n"
    assert time.perf_counter() - start < 10


def test_preformatted_text_keeps_its_blank_lines() -> None:
    page = "<p>a</p><pre><code>\nif x:\n\ty()\n\n\n    z</code></pre><p>b</p>"
    assert html_to_text(page) == "a\n\nif x:\n\ty()\n\n\n    z\n\nb\n"
    assert html_to_text("<p>a</p><plaintext><b>1\n\n  2") == "a\n\n<b>1\n\n  2\n"


def test_noscript_is_read_only_where_the_page_has_nothing_else() -> None:
    assert html_to_text("<body><noscript><p>Read this.</p></noscript></body>") == "Read this.\n"
    assert html_to_text("<body><p>a</p><noscript><p>Read this.</p></noscript></body>") == "a\n"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("a<br>b<br/>\nc", "a\nb\nc\n"),
        ("a<br><br>b", "a\n\nb\n"),
        ("a<br>\n <br>\n<br>b", "a\n\nb\n"),
        ("<div>a</div><br><div>b</div>", "a\n\nb\n"),
        ("<div>a<br></div><div>b</div>", "a\nb\n"),
        ("<p>a<br></p><p>b</p>", "a\n\nb\n"),
    ],
)
def test_two_line_breaks_are_a_blank_line(page: str, text: str) -> None:
    assert html_to_text(page) == text


@pytest.mark.parametrize(
    ("formula", "seen"),
    [
        ("<msup><mi>x</mi><mn>2</mn></msup>", "x²"),
        ("<msup> <mi>x</mi> <mi>k</mi> </msup>", "x^k"),
        ("<msup><mi>e</mi><mrow><mi>i</mi><mi>π</mi></mrow></msup>", "e^(iπ)"),
        ("<msub><mi>x</mi><mi>i</mi></msub><mo>+</mo><msub><mi>x</mi><mn>10</mn></msub>", "x_i+x₁₀"),
        ("<msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup>", "x_i^2"),
        ("<mfrac><mrow><mi>a</mi><mo>+</mo><mn>1</mn></mrow><mrow><mn>2</mn><mi>b</mi></mrow></mfrac>", "(a+1)/(2b)"),
        ("<mfrac><msup><mi>x</mi><mn>2</mn></msup><mfrac><mi>a</mi><mn>12</mn></mfrac></mfrac>", "x²/(a/12)"),
        ("<msqrt><mi>y</mi><mo>-</mo><mn>1</mn></msqrt><mroot><mi>z</mi><mn>3</mn></mroot>", "√(y-1)z^(1/3)"),
        ("<munderover><mo>∑</mo><mi>i</mi><mi>n</mi></munderover><mi>i</mi>", "∑_i^n i"),
        ("<msup><mi>f</mi><mo>′</mo></msup><mfenced><mi>x</mi><mi>y</mi></mfenced>", "f′(x,y)"),
        ("<msup></msup><msup><mi>R</mi></msup>", "R"),
    ],
)
def test_formulas_are_written_in_a_line(formula: str, seen: str) -> None:
    assert html_to_text(f"<p>a <math>{formula}</math> b</p>") == f"a {seen} b\n"


def test_cells_of_a_matrix_are_apart() -> None:
    row = "<mtr><mtd><mn>1</mn></mtd><mtd><mn>0</mn></mtd></mtr>"
    assert html_to_text(f"<math><mtable>{row}{row}</mtable></math>") == "1 0\n1 0\n"
