//! Decides whether Envoy takes a regular expression, and what a user has to change when it does not.
//!
//! Envoy compiles patterns with RE2 and refuses the whole response that carries a pattern RE2 does not take. Patterns are
//! parsed here with the syntax of Rust's `regex`, which is close to RE2's (<https://github.com/google/re2/wiki/Syntax>), and
//! what only one of the two knows, or what means something else there, is refused. So what is taken here is taken by RE2;
//! a few patterns that RE2 would take (`\Q…\E`, `\C`, octal escapes, a brace that stands for itself) are refused.
//!
//! Envoys do not agree on what a character is: 1.36 reads patterns as UTF-8, 1.40 byte by byte (Latin-1), as a test with
//! both shows. What is taken here means the same to either, but for `.` and negated classes, which take a character or a
//! byte. Never matches anything: that is Envoy's work.

use regex_syntax::ast::{
    self, AssertionKind, Ast, ClassPerl, ClassSet, ClassSetItem, ErrorKind, Flag, FlagsItemKind, GroupKind,
    HexLiteralKind, LiteralKind, RepetitionKind, RepetitionRange,
};

/// The largest program, in RE2's instructions, that a pattern may compile to.
///
/// Envoy refuses patterns beyond the runtime value `re2.max_program_size.error_level`, which is 100 when nobody sets it
/// (`envoy.type.matcher.v3.RegexMatcher.GoogleRE2` in Envoy's API documentation): our bootstrap has to raise it to at least
/// this value. The estimate made here is never below RE2's own count. RE2's memory limit (8 MiB) is reached at more than twice
/// this size.
pub const MAX_PROGRAM_SIZE: u32 = 32_768;

/// How deep groups, classes and repetitions may be nested. RE2's own limit is 1000.
const MAX_NESTING: u32 = 200;

/// RE2 repeats nothing more often than this, nested repetitions multiplied.
const MAX_REPETITION: u64 = 1000;

/// An upper bound of the instructions for the characters beyond ASCII, which `.` and negated classes take too.
const BEYOND_ASCII: u64 = 12;

/// More ranges than this do not fit into ASCII with gaps between them, and what lies beyond it is one part.
const MOST_RANGES: u64 = 64 + BEYOND_ASCII;

/// An upper bound of the instructions for a named class of ASCII, such as `\w` or `[:punct:]`.
const NAMED_CLASS: u64 = 6;

/// What RE2 needs beside the pattern itself: the loop for an unanchored start, the match and the failure.
const FRAME: u64 = 16;

/// Checks a pattern that has to match the whole of something.
///
/// # Errors
/// When Envoy would refuse it or understand something else: what is wrong and what to write instead, to follow the name of
/// the field.
pub fn check(pattern: &str) -> Result<(), String> {
    if pattern.is_empty() {
        return Err("the regular expression is empty: write what it has to match, such as .*".into());
    }
    let mut parser = ast::parse::ParserBuilder::new().nest_limit(MAX_NESTING).build();
    let parsed = parser.parse(pattern).map_err(|error| explain(&error))?;
    let mut walk = Walk { pattern, case_insensitive: false };
    let size = walk.size(&parsed, 1)?.saturating_add(FRAME);
    if size > u64::from(MAX_PROGRAM_SIZE) { Err(too_large(size)) } else { Ok(()) }
}

fn too_large(size: u64) -> String {
    format!(
        "the regular expression is too large: it needs {size} instructions or more and {MAX_PROGRAM_SIZE} are allowed; \
         shorten it, or lower its repetition counts"
    )
}

/// What is wrong with a pattern that could not be parsed.
fn explain(error: &ast::Error) -> String {
    let place = error.span().start.column;
    let what = match error.kind() {
        ErrorKind::UnsupportedLookAround => {
            "look-around such as (?=…) or (?!…) does not exist in RE2, the dialect of Envoy: say what may stand there, or use \
             a second rule that takes the other requests"
                .to_owned()
        }
        ErrorKind::UnsupportedBackreference => {
            "backreferences such as \\1 do not exist in RE2, the dialect of Envoy: write the repeated part out".to_owned()
        }
        ErrorKind::RepetitionMissing => {
            "there is nothing to repeat here: write \\* \\+ \\? or \\{ for the character itself".to_owned()
        }
        ErrorKind::RepetitionCountUnclosed
        | ErrorKind::RepetitionCountDecimalEmpty
        | ErrorKind::DecimalEmpty
        | ErrorKind::DecimalInvalid => "a brace repeats, as in a{2,5}: write \\{ for the character itself".to_owned(),
        ErrorKind::NestLimitExceeded(limit) => format!("groups are nested deeper than {limit}: make it simpler"),
        kind => format!("{kind}; Envoy takes the syntax of RE2"),
    };
    format!("this is no regular expression that Envoy takes (character {place}): {what}")
}

/// A refusal of something that Rust's syntax has and RE2 has not.
fn unknown(what: &str, instead: &str) -> String {
    format!("{what} does not exist in RE2, the dialect of Envoy: {instead}")
}

/// A refusal of something that depends on what an Envoy takes for a character.
fn ascii_only(what: &str) -> String {
    format!(
        "{what} means different things to different versions of Envoy: use ASCII characters there, or write whole words one \
         beside the other, as in (?:é|ü)"
    )
}

/// One pass over a pattern.
struct Walk<'a> {
    pattern: &'a str,
    /// Whether `(?i)` holds here: case folding makes classes of letters.
    case_insensitive: bool,
}

impl Walk<'_> {
    /// An upper bound of the instructions that RE2 makes of this part. `repeated` is how often the repetitions around it
    /// multiply it.
    fn size(&mut self, ast: &Ast, repeated: u64) -> Result<u64, String> {
        Ok(match ast {
            Ast::Empty(_) => 1,
            Ast::Flags(set) => {
                self.flags(&set.flags)?;
                1
            }
            Ast::Literal(literal) => {
                check_escape(literal)?;
                if !literal.c.is_ascii() && self.case_insensitive {
                    return Err(ascii_only("a character beyond ASCII under (?i)"));
                }
                literal.c.len_utf8() as u64 + self.folding()
            }
            Ast::Dot(_) => BEYOND_ASCII,
            Ast::Assertion(assertion) => match assertion.kind {
                AssertionKind::StartLine
                | AssertionKind::EndLine
                | AssertionKind::StartText
                | AssertionKind::EndText
                | AssertionKind::WordBoundary
                | AssertionKind::NotWordBoundary => 2,
                _ => {
                    return Err(unknown("the boundary \\< \\> or \\b{…}", "write \\b, or < and > without a backslash"));
                }
            },
            Ast::ClassUnicode(_) => return Err(ascii_only("a Unicode class such as \\p{Lu}")),
            Ast::ClassPerl(class) => perl_class(class),
            Ast::ClassBracketed(class) => {
                let ClassSet::Item(item) = &class.kind else {
                    return Err(unknown(
                        "the set operation && -- or ~~ in a class",
                        "write out the characters, and put a backslash before each character that stands for itself",
                    ));
                };
                // The ranges between the ranges are one more.
                self.class_item(item)?.min(MOST_RANGES) + if class.negated { 1 + BEYOND_ASCII } else { 0 }
            }
            Ast::Repetition(repetition) => self.repetition(repetition, repeated)?,
            Ast::Group(group) => {
                let outside = self.case_insensitive;
                match &group.kind {
                    GroupKind::CaptureIndex(_) => {}
                    GroupKind::CaptureName { name, .. } => {
                        if !name.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                            return Err(unknown("a group name like this", "use letters, digits and underscores only"));
                        }
                    }
                    GroupKind::NonCapturing(flags) => self.flags(flags)?,
                }
                let inside = self.size(&group.ast, repeated)?;
                self.case_insensitive = outside;
                inside.saturating_add(2)
            }
            Ast::Alternation(alternation) => self.sum(&alternation.asts, repeated, 2)?,
            Ast::Concat(concat) => self.sum(&concat.asts, repeated, 0)?,
        })
    }

    fn sum(&mut self, parts: &[Ast], repeated: u64, each: u64) -> Result<u64, String> {
        let mut total: u64 = 0;
        for part in parts {
            total = total.saturating_add(self.size(part, repeated)?).saturating_add(each);
            // Nobody has to count the rest.
            if total > u64::from(MAX_PROGRAM_SIZE) {
                return Err(too_large(total));
            }
        }
        Ok(total)
    }

    /// Notes `(?i)` and refuses the flags that RE2 has not.
    fn flags(&mut self, flags: &ast::Flags) -> Result<(), String> {
        let mut on = true;
        for item in &flags.items {
            match &item.kind {
                FlagsItemKind::Negation => on = false,
                FlagsItemKind::Flag(Flag::CaseInsensitive) => self.case_insensitive = on,
                FlagsItemKind::Flag(Flag::MultiLine | Flag::DotMatchesNewLine | Flag::SwapGreed) => {}
                FlagsItemKind::Flag(_) => {
                    return Err(unknown("the flag x, u or R", "only i, m, s and U can stand in (?…)"));
                }
            }
        }
        Ok(())
    }

    /// An upper bound of what `(?i)` adds to a range of ASCII: other cases, the long s and the Kelvin sign.
    fn folding(&self) -> u64 {
        if self.case_insensitive { 8 } else { 0 }
    }

    fn class_item(&self, item: &ClassSetItem) -> Result<u64, String> {
        let ascii = |literal: &ast::Literal| {
            check_escape(literal)?;
            if literal.c.is_ascii() { Ok(()) } else { Err(ascii_only("a character beyond ASCII in a class")) }
        };
        Ok(match item {
            ClassSetItem::Empty(_) => 0,
            ClassSetItem::Literal(literal) => {
                ascii(literal)?;
                1 + self.folding()
            }
            ClassSetItem::Range(range) => {
                ascii(&range.start)?;
                ascii(&range.end)?;
                1 + self.folding()
            }
            ClassSetItem::Ascii(class) => {
                NAMED_CLASS + self.folding() + if class.negated { 1 + BEYOND_ASCII } else { 0 }
            }
            ClassSetItem::Perl(class) => perl_class(class) + self.folding(),
            ClassSetItem::Unicode(_) => return Err(ascii_only("a Unicode class such as \\p{Lu}")),
            ClassSetItem::Bracketed(_) => {
                return Err(unknown(
                    "a class inside a class",
                    "put a backslash before a bracket that stands for itself",
                ));
            }
            ClassSetItem::Union(union) => {
                let mut total: u64 = 0;
                for item in &union.items {
                    total = total.saturating_add(self.class_item(item)?);
                }
                total
            }
        })
    }

    fn repetition(&mut self, repetition: &ast::Repetition, repeated: u64) -> Result<u64, String> {
        if matches!(*repetition.ast, Ast::Repetition(_)) {
            return Err(unknown("a repetition directly after a repetition", "put the inner one in a group: (?:a*)*"));
        }
        if matches!(&*repetition.ast, Ast::Literal(literal) if !literal.c.is_ascii()) {
            return Err(ascii_only("the repetition of a character beyond ASCII that is not in a group"));
        }
        let RepetitionKind::Range(range) = &repetition.op.kind else {
            return Ok(self.size(&repetition.ast, repeated)?.saturating_add(2));
        };
        // Rust allows blanks between the braces; RE2 then takes the braces for themselves.
        let span = &repetition.op.span;
        if self.pattern[span.start.offset..span.end.offset].contains(char::is_whitespace) {
            return Err(unknown("a blank inside the braces of a repetition", "leave it out"));
        }
        let (most, copies) = match *range {
            RepetitionRange::Exactly(count) => (count, count),
            RepetitionRange::AtLeast(count) => (count, count.saturating_add(1)),
            RepetitionRange::Bounded(_, most) => (most, most),
        };
        let repeated = repeated.saturating_mul(u64::from(most.max(1)));
        if u64::from(most) > MAX_REPETITION || repeated > MAX_REPETITION {
            return Err(format!(
                "the regular expression repeats something more than {MAX_REPETITION} times (nested repetitions multiply), \
                 which RE2, the dialect of Envoy, refuses: lower the counts"
            ));
        }
        let each = self.size(&repetition.ast, repeated)?.saturating_add(2);
        Ok(each.saturating_mul(u64::from(copies.max(1))))
    }
}

/// Refuses escapes that RE2 has not, and those of characters that not every Envoy knows.
fn check_escape(literal: &ast::Literal) -> Result<(), String> {
    let (LiteralKind::HexFixed(kind) | LiteralKind::HexBrace(kind)) = &literal.kind else { return Ok(()) };
    if *kind != HexLiteralKind::X {
        return Err(unknown("the escape \\u or \\U", "write the character itself, or \\x{…}"));
    }
    if literal.c.is_ascii() { Ok(()) } else { Err(ascii_only("an escape of a character beyond ASCII")) }
}

fn perl_class(class: &ClassPerl) -> u64 {
    NAMED_CLASS + if class.negated { 1 + BEYOND_ASCII } else { 0 }
}
