//! A bound on nesting, ahead of the parser. Its own comes too late: it works in time quadratic in the number of open
//! brackets, of which 100,000 in a file of 400 KB keep it busy for half a minute.

/// How many brackets may be open at once, and how many sequences may begin on one line. The deepest configuration
/// has a handful. (Over several lines, sequences nest by indentation, which bounds them by the size of the file.)
const MAX_OPEN: usize = 64;

/// The offset of the first bracket, brace or dash that is one too many.
///
/// It follows quotes and comments as far as it takes not to count what stands in them, and takes only that for an
/// opening bracket which stands where a value may start.
pub fn too_deep(text: &[u8]) -> Option<usize> {
    let mut open = 0_usize;
    let mut dashes = 0_usize;
    let mut at = 0;
    let mut starts = true;
    while let Some(&byte) = text.get(at) {
        let rest = &text[at + 1..];
        match byte {
            b'[' | b'{' if starts && open == MAX_OPEN => return Some(at),
            b'[' | b'{' if starts => open += 1,
            b'-' | b'?' if starts && dashes == MAX_OPEN => return Some(at),
            b'-' | b'?' if starts && rest.starts_with(b" ") => dashes += 1,
            b'\n' => dashes = 0,
            b']' | b'}' => open = open.saturating_sub(1),
            // Up to the end of the line, which counts as such.
            b'#' if starts => at += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
            b'\'' if starts => at += length(rest, b'\''),
            b'"' if starts => at += double_quoted(rest),
            _ => {}
        }
        starts = matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'[' | b'{' | b',' | b':' | b'#');
        at += 1;
    }
    None
}

/// How many bytes there are up to and with `end`.
fn length(text: &[u8], end: u8) -> usize {
    text.iter().position(|b| *b == end).map_or(text.len(), |at| at + 1)
}

/// As [`length`], up to the quote that ends the text.
fn double_quoted(text: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().position(|b| {
        let ends = *b == b'"' && !escaped;
        escaped = *b == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |at| at + 1)
}
