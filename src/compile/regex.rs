//! Decides whether Envoy takes a regular expression, and what a user has to change when it does not.
//!
//! Envoy compiles patterns with RE2 and refuses the whole response that carries a pattern RE2 does not take. Patterns are
//! parsed here with the syntax of Rust's `regex`, which is close to RE2's (<https://github.com/google/re2/wiki/Syntax>), and
//! what only one of the two knows, or what means something else there, is refused. So what is taken here is taken by RE2;
//! a few patterns that RE2 would take (`\Q…\E`, `\C`, octal escapes, a brace that stands for itself) are refused.
//! Never matches anything: that is Envoy's work.

use std::ops::RangeInclusive;

use regex_syntax::{
    ast::{
        self, AssertionKind, Ast, ClassSet, ClassSetItem, ClassUnicodeKind, ErrorKind, Flag, FlagsItemKind, GroupKind,
        HexLiteralKind, LiteralKind, RepetitionKind, RepetitionRange,
    },
    utf8::Utf8Sequences,
};

/// The largest program, in RE2's instructions, that a pattern may compile to.
///
/// Envoy refuses patterns beyond the runtime value `re2.max_program_size.error_level`, which is 100 when nobody sets it
/// (`envoy.type.matcher.v3.RegexMatcher.GoogleRE2` in Envoy's API documentation): our bootstrap has to raise it to at least
/// this value. The estimate made here is never below RE2's own count. RE2's memory limit (8 MiB) is reached at about eight
/// times this size.
pub const MAX_PROGRAM_SIZE: u32 = 10_000;

/// How deep groups, classes and repetitions may be nested. RE2's own limit is 1000.
const MAX_NESTING: u32 = 200;

/// RE2 repeats nothing more often than this, nested repetitions multiplied.
const MAX_REPETITION: u64 = 1000;

/// What RE2 needs beside the pattern itself: the loop for an unanchored start, the match and the failure.
const FRAME: u64 = 16;

/// An upper bound for a class of ASCII ranges that is negated, or for `.`: RE2 spells out the rest of UTF-8.
const UTF8_REST: u64 = 24;

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
    if size > u64::from(MAX_PROGRAM_SIZE) {
        return Err(format!(
            "the regular expression is too large: it needs about {size} instructions and {MAX_PROGRAM_SIZE} are allowed; \
             shorten it, or lower its repetition counts"
        ));
    }
    Ok(())
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
            Ast::Literal(literal) => self.literal(literal)?,
            Ast::Dot(_) => UTF8_REST,
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
            Ast::ClassUnicode(class) => unicode_class(class)?,
            Ast::ClassPerl(_) => UTF8_REST,
            Ast::ClassBracketed(class) => {
                let items = match &class.kind {
                    ClassSet::Item(item) => self.class_item(item)?,
                    ClassSet::BinaryOp(_) => {
                        return Err(unknown(
                            "the set operation && -- or ~~ in a class",
                            "write out the characters, and put a backslash before each character that stands for itself",
                        ));
                    }
                };
                // The ranges between the given ones are as many, and may each need the longer forms of UTF-8.
                if class.negated { items.saturating_mul(3).saturating_add(UTF8_REST) } else { items.saturating_add(1) }
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

    fn literal(&self, literal: &ast::Literal) -> Result<u64, String> {
        match &literal.kind {
            // RE2 takes a backslash before punctuation only, and the underscore is none.
            LiteralKind::Superfluous if literal.c == '_' => {
                return Err(unknown("the escape \\_", "write the underscore without a backslash"));
            }
            LiteralKind::HexFixed(kind) | LiteralKind::HexBrace(kind) if *kind != HexLiteralKind::X => {
                return Err(unknown("the escape \\u or \\U", "write the character itself, or \\x{…}"));
            }
            _ => {}
        }
        Ok(self.range(literal.c..=literal.c))
    }

    /// An upper bound for a range of characters.
    fn range(&self, range: RangeInclusive<char>) -> u64 {
        let sequences = |start, end| {
            Utf8Sequences::new(start, end).map(|sequence| sequence.len() as u64 + 1).fold(0u64, u64::saturating_add)
        };
        let plain = sequences(*range.start(), *range.end());
        // With case folding each letter may add two more, such as k, K and the Kelvin sign; a range is folded as a whole.
        if !self.case_insensitive || (range.end().is_ascii() && !has_ascii_letter(&range)) {
            plain
        } else if range.end().is_ascii() {
            plain + 16
        } else {
            let letters = u64::from(*range.end()) - u64::from(*range.start()) + 1;
            plain.saturating_add(letters.min(1500).saturating_mul(10))
        }
    }

    fn class_item(&mut self, item: &ClassSetItem) -> Result<u64, String> {
        Ok(match item {
            ClassSetItem::Empty(_) => 0,
            ClassSetItem::Literal(literal) => self.literal(literal)?,
            ClassSetItem::Range(range) => {
                self.literal(&range.start)?;
                self.literal(&range.end)?;
                self.range(range.start.c..=range.end.c)
            }
            ClassSetItem::Ascii(_) | ClassSetItem::Perl(_) => UTF8_REST,
            ClassSetItem::Unicode(class) => unicode_class(class)?,
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

fn has_ascii_letter(range: &RangeInclusive<char>) -> bool {
    (b'A'..=b'Z').chain(b'a'..=b'z').any(|letter| range.contains(&char::from(letter)))
}

/// An upper bound for `\p{…}`; refuses the names that RE2 has not.
fn unicode_class(class: &ast::ClassUnicode) -> Result<u64, String> {
    let instead = "use a general category such as \\p{Lu} or a script such as \\p{Greek}, spelled as Unicode does";
    let name = match &class.kind {
        ClassUnicodeKind::OneLetter(letter) => letter.to_string(),
        ClassUnicodeKind::Named(name) => name.clone(),
        ClassUnicodeKind::NamedValue { .. } => return Err(unknown("\\p{name=value}", instead)),
    };
    if !CATEGORIES.split(' ').chain(SCRIPTS.split(' ')).any(|known| known == name) {
        return Err(unknown(&format!("the class \\p{{{name}}}"), instead));
    }
    // A class and its complement have as many borders. Case folding adds little to classes this large.
    let parsed = regex_syntax::parse(&format!("\\p{{{name}}}"));
    let Ok(regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(ranges))) =
        parsed.as_ref().map(regex_syntax::hir::Hir::kind)
    else {
        return Ok(UTF8_REST);
    };
    let sequences = ranges.iter().flat_map(|range| Utf8Sequences::new(range.start(), range.end()));
    let size = sequences.map(|sequence| sequence.len() as u64 + 1).fold(0u64, u64::saturating_add);
    Ok(size.saturating_mul(2).saturating_add(UTF8_REST))
}

/// The general categories that RE2 knows, with a blank between each two.
const CATEGORIES: &str = "\
    C Cc Cf Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs Any";

/// The scripts that RE2 knows (Unicode 15), with a blank between each two.
const SCRIPTS: &str = "\
    Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki \
    Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee \
    Chorasmian Common Coptic Cuneiform Cypriot Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra Duployan \
    Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic Georgian Glagolitic Gothic Grantha Greek Gujarati Gunjala_Gondi \
    Gurmukhi Han Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic Inherited \
    Inscriptional_Pahlavi Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kawi Kayah_Li Kharoshthi \
    Khitan_Small_Script Khmer Khojki Khudawadi Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani \
    Makasar Malayalam Mandaic Manichaean Marchen Masaram_Gondi Medefaidrin Meetei_Mayek Mende_Kikakui \
    Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar Nabataean Nag_Mundari Nandinagari \
    New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Old_Hungarian Old_Italic Old_North_Arabian \
    Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Oriya Osage Osmanya Pahawh_Hmong \
    Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic Samaritan Saurashtra Sharada Shavian \
    Siddham SignWriting Sinhala Sogdian Sora_Sompeng Soyombo Sundanese Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le \
    Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Toto Ugaritic Vai \
    Vithkuqi Wancho Warang_Citi Yezidi Yi Zanabazar_Square";
