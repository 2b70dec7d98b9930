//! Bound on nesting, enforced before parsing. The parser's own bound comes too late: its time is quadratic in the
//! number of open brackets, and 100,000 of them in 400 KB take half a minute.

/// Maximum number of open brackets, and of sequences that begin on one line. Real configurations need a handful.
/// (Over several lines, sequences nest by indentation, so the file size bounds them.)
const MAX_OPEN: usize = 64;

/// Returns the offset of the first bracket, brace or dash beyond the bound.
///
/// Skips quoted text and comments, and counts an opening bracket only where a value may start.
pub fn find_excess_nesting(text: &[u8]) -> Option<usize> {
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
            // Skips a comment, including its newline.
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

/// Returns the number of bytes up to and including `end`.
fn length(text: &[u8], end: u8) -> usize {
    text.iter().position(|b| *b == end).map_or(text.len(), |at| at + 1)
}

/// Like [`length`], for double quotes with escapes.
fn double_quoted(text: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().position(|b| {
        let ends = *b == b'"' && !escaped;
        escaped = *b == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |at| at + 1)
}
