//! Characters that must not reach logs and terminals.

/// Returns true for a character that a reader cannot see, and that changes what the reader does see: a control
/// character, one that sets the direction of text (bidi), or one without width.
///
/// ```
/// use maglev_ipc::text::is_unprintable;
///
/// assert!(['\x1b', '\u{202e}', '\u{2066}', '\u{200b}'].into_iter().all(is_unprintable));
/// assert!(!"disk swap, größer, 磁盘, \u{5d0}".contains(is_unprintable));
/// ```
#[must_use]
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
