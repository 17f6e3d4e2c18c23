//! Words that have to fit.

/// A text of at most `limit` bytes: the whole one, or its beginning and `more`, which is no longer than that itself.
pub fn shortened(mut text: String, limit: usize, more: &str) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit.saturating_sub(more.len())));
        text.push_str(more);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_between_letters_and_says_so() {
        assert_eq!(shortened("äöü".to_owned(), 6, "…"), "äöü");
        assert_eq!(shortened("äöüx".to_owned(), 6, "…"), "ä…");
    }
}
