//! Which regular expressions are taken. That Envoy takes and refuses the same ones is tested with a real one.

use tailscale_gateway::compile::regex::{MAX_PROGRAM_SIZE, check};

use crate::support::regex_cases::{REFUSED, TAKEN};

/// What would take too much of Envoy's memory and time.
const LARGE: &[&str] =
    &[r"(?:[\W\S\D]{10}){99}", "(?:[a-z0-9_.-]{30}){33}(?:(?:/[^/]{9}){9}){10}(?:.a?b?){999}", r"(?:\W\W){999}"];

#[test]
fn the_syntax_of_re2_is_taken() {
    for pattern in TAKEN {
        assert_eq!(check(pattern), Ok(()), "{pattern}");
    }
}

#[test]
fn what_re2_does_not_know_is_refused() {
    for (pattern, words, _) in REFUSED {
        let message = check(pattern).expect_err(pattern);
        assert!(message.contains(words), "{pattern}: {message}");
        assert!(!message.contains('\n'), "{pattern}: {message}");
    }
}

#[test]
fn patterns_that_make_large_programs_are_refused() {
    for pattern in LARGE {
        let message = check(pattern).expect_err(pattern);
        assert!(message.contains("too large"), "{pattern}: {message}");
    }
    let longest = "a".repeat(MAX_PROGRAM_SIZE as usize - 100);
    assert_eq!(check(&longest), Ok(()));
    assert!(check(&longest.repeat(2)).is_err());
}

#[test]
fn deep_nesting_ends_in_a_message_and_not_in_a_stack_overflow() {
    let deep = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(check(&deep(150)), Ok(()));
    let message = check(&deep(100_000)).expect_err("too deep");
    assert!(message.contains("nested"), "{message}");
}
