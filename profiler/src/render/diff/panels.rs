//! Two of inferno's pictures in one, of which both zoom and are searched: the second runs on the program of
//! the first.

use std::io;

/// Tells inferno's program which of the pictures an event is in.
const PROGRAM: &str = include_str!("panels.js");

/// One picture of two, the second below the first.
pub(super) fn below(first: &str, second: &str) -> io::Result<String> {
    let odd = || io::Error::other("inferno's SVG has changed");
    let (above, under) = (height(first).ok_or_else(odd)?, height(second).ok_or_else(odd)?);
    let all = above + under;
    let resize = |svg: &str| {
        svg.replacen(&format!("height=\"{above}\""), &format!("height=\"{all}\""), 1).replacen(
            &format!("viewBox=\"0 0 1200 {above}\""),
            &format!("viewBox=\"0 0 1200 {all}\""),
            1,
        )
    };
    let first = resize(first.trim_end().strip_suffix("</svg>").ok_or_else(odd)?);
    let (_, second) = second.split_once("<svg ").ok_or_else(odd)?;
    let (head, body) = without_script(second).ok_or_else(odd)?;
    let head = head.replacen(" onload=\"init(evt)\"", "", 1);
    // Its own ids; those in names are not touched: there a quotation mark is `&quot;`.
    let head = ["title", "frames", "unzoom", "matched"]
        .iter()
        .fold(head, |head, id| head.replace(&format!("#{id}"), &format!("#gone-{id}")));
    let ids = |part: &str| {
        part.replace(" id=\"", " id=\"gone-").replace("url(#background)", "url(#gone-background)")
    };
    // One search is for both.
    let body = without_text(body, "search").ok_or_else(odd)?;
    let program = format!("<script type=\"text/ecmascript\"><![CDATA[{PROGRAM}]]></script>");
    let second = format!("<svg id=\"gone\" y=\"{above}\" {}{}", ids(&head), ids(&body));
    Ok(format!("{first}{second}{program}\n</svg>\n"))
}

/// What is before and behind the script of a picture.
fn without_script(svg: &str) -> Option<(&str, &str)> {
    let (head, rest) = svg.split_once("<script")?;
    Some((head, rest.split_once("</script>")?.1))
}

/// Without the text that has this id.
fn without_text(svg: &str, id: &str) -> Option<String> {
    let (before, rest) = svg.split_once(&format!("<text id=\"{id}\""))?;
    Some(format!("{before}{}", rest.split_once("</text>")?.1))
}

/// The height of a picture, in pixels.
fn height(svg: &str) -> Option<usize> {
    let (_, rest) = svg.split_once("<svg ")?;
    let (_, rest) = rest.split_once("height=\"")?;
    rest.split_once('"')?.0.parse().ok()
}
