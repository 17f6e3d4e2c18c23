//! Tells quickly of nearly all names that they are none of some: of each of thousands of resources it is asked whether it is one
//! of the few that something is done to.

use std::collections::BTreeSet;

/// How many lengths of names are told apart. With more of them, looking a name up is as quick.
const LENGTHS: usize = 16;

/// How many bits there are for each name: so few others are taken for one.
const BITS: usize = 16;

/// Some names, as far as it takes to say what is none of them.
#[derive(Debug, Default)]
pub(super) struct Likely {
    /// How long they are; nothing when that is not known.
    lengths: Option<Vec<usize>>,
    /// A bit for each, at a place that follows from its last bytes. As many words as a power of two, or none.
    bits: Vec<u64>,
}

impl Likely {
    /// Takes every name for one of those it is about.
    pub(super) fn any() -> Self {
        Self::default()
    }

    /// Is about these names.
    pub(super) fn of(names: &[&str]) -> Self {
        let mut bits = vec![0; (names.len() * BITS / 64).next_power_of_two()];
        let mut lengths = BTreeSet::new();
        for name in names {
            lengths.insert(name.len());
            let place = place(name.as_bytes(), bits.len());
            bits[place / 64] |= 1 << (place % 64);
        }
        let lengths = (lengths.len() <= LENGTHS).then(|| lengths.into_iter().collect());
        Self { lengths, bits }
    }

    /// Whether this may be one of the names, or one with a slash and more behind it. If not, it is neither.
    #[inline]
    pub(super) fn may_begin(&self, name: &[u8]) -> bool {
        let Some(lengths) = &self.lengths else { return true };
        lengths.iter().any(|&len| {
            let ends = name.len() == len || name.get(len) == Some(&b'/');
            ends && {
                let place = place(&name[..len], self.bits.len());
                self.bits[place / 64] >> (place % 64) & 1 == 1
            }
        })
    }
}

/// The place of a name's bit among those of so many words. The ends of names differ most.
#[inline]
fn place(name: &[u8], words: usize) -> usize {
    let (mut rest, mut mixed) = (name, 0_u64);
    for turn in [0, 23, 46] {
        let Some((front, last)) = rest.split_last_chunk::<8>() else { break };
        mixed ^= u64::from_le_bytes(*last).rotate_left(turn);
        rest = front;
    }
    // The golden ratio, which spreads what is alike (Knuth, The Art of Computer Programming, 6.4); its high bits are the good ones.
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % (words * 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(lengths: usize) -> Vec<String> {
        (0..200).map(|number| format!("route/{}{number}/rule/0", "x".repeat(number % lengths))).collect()
    }

    #[test]
    fn every_name_is_one_and_so_is_what_begins_with_one_and_nearly_nothing_else() {
        for lengths in [1, 9, 40] {
            let names = names(lengths);
            let likely = Likely::of(&names.iter().map(String::as_str).collect::<Vec<_>>());
            for name in &names {
                assert!(likely.may_begin(name.as_bytes()), "{name}");
                assert!(likely.may_begin(format!("{name}/match/0").as_bytes()), "{name}");
            }
        }
        let names = names(9);
        let likely = Likely::of(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let others = (200..10_200).map(|number| format!("route/{}{number}/rule/0", "x".repeat(number % 9)));
        let taken = others.filter(|name| likely.may_begin(name.as_bytes())).count();
        assert!(taken < 2_000, "{taken} of 10 000");
        // What begins with a name and goes on without a slash is another.
        assert!(!Likely::of(&["route/a/rule/1"]).may_begin(b"route/a/rule/10"));
    }

    #[test]
    fn nothing_is_one_of_no_names_and_everything_when_they_are_not_known() {
        assert!(!Likely::of(&[]).may_begin(b"route/a/rule/0"));
        assert!(Likely::any().may_begin(b"route/a/rule/0"));
        assert!(Likely::of(&["", "a"]).may_begin(b"a/b"));
    }
}
