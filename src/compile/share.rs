//! Divides the requests of a rule among clusters. Never knows what the clusters are.

use smallvec::SmallVec;

/// The largest sum when shares have to be rounded. Envoy's sum of weights has to fit 32 bits.
const ROUNDED_SUM: u128 = 1 << 31;

/// The weights of clusters, for backends that have a weight and divide it among some clusters.
///
/// Each cluster gets exactly its part, in the smallest whole numbers. Where that does not fit Envoy's 32 bits, parts are
/// rounded to about 2^-31 of the whole and nobody loses all of a part. Weights of 0 stay 0.
pub(super) fn weights(backends: &[(u32, SmallVec<[u32; 1]>)]) -> Vec<SmallVec<[u32; 1]>> {
    exact(backends).unwrap_or_else(|| rounded(backends))
}

/// The weights of clusters of some backends, beside backends of others whose weights are left as they are, but for a whole
/// factor: that one, and the weights. Where parts can not be whole, they are rounded and nobody loses all of a part.
pub(super) fn among_others(others: u32, backends: &[(u32, SmallVec<[u32; 1]>)]) -> (u32, Vec<SmallVec<[u32; 1]>>) {
    let mut factor: u128 = 1;
    for (weight, parts) in backends {
        let sum = sum(parts).max(1);
        let step = parts.iter().fold(0, |step, part| gcd(step, u128::from(*part))) * u128::from(*weight);
        let needed = sum / gcd(sum, step).max(1);
        factor = factor / gcd(factor, needed).max(1) * needed;
        if factor > u128::from(u32::MAX) {
            factor = 1;
            break;
        }
    }
    let total = backends.iter().map(|(weight, _)| u128::from(*weight)).sum::<u128>() + u128::from(others);
    let factor = u32::try_from(factor).ok().filter(|factor| total * u128::from(*factor) <= u128::from(u32::MAX));
    let factor = factor.unwrap_or(1);
    let row = |(weight, parts): &(u32, SmallVec<[u32; 1]>)| {
        let whole = u128::from(*weight) * u128::from(factor);
        let sum = sum(parts).max(1);
        let part = |part: &u32| {
            let value = whole * u128::from(*part) / sum;
            u32::try_from(value.max(u128::from(*weight > 0 && *part > 0))).unwrap_or(u32::MAX)
        };
        parts.iter().map(part).collect()
    };
    (factor, backends.iter().map(row).collect())
}

fn exact(backends: &[(u32, SmallVec<[u32; 1]>)]) -> Option<Vec<SmallVec<[u32; 1]>>> {
    let mut common: u128 = 1;
    for (_, parts) in backends {
        let sum = sum(parts).max(1);
        common = (common / gcd(common, sum)).checked_mul(sum)?;
    }
    let mut scaled: Vec<SmallVec<[u128; 1]>> = Vec::with_capacity(backends.len());
    let (mut total, mut divisor): (u128, u128) = (0, 0);
    for (weight, parts) in backends {
        let unit = u128::from(*weight).checked_mul(common / sum(parts).max(1))?;
        let mut row = SmallVec::with_capacity(parts.len());
        for part in parts {
            let value = unit.checked_mul(u128::from(*part))?;
            total = total.checked_add(value)?;
            divisor = gcd(divisor, value);
            row.push(value);
        }
        scaled.push(row);
    }
    let divisor = divisor.max(1);
    u32::try_from(total / divisor).ok()?;
    let narrow = |value: &u128| u32::try_from(value / divisor).expect("no part is larger than the sum");
    Some(scaled.iter().map(|row| row.iter().map(narrow).collect()).collect())
}

fn rounded(backends: &[(u32, SmallVec<[u32; 1]>)]) -> Vec<SmallVec<[u32; 1]>> {
    let whole = backends.iter().map(|(weight, _)| u128::from(*weight)).sum::<u128>().max(1);
    let row = |(weight, parts): &(u32, SmallVec<[u32; 1]>)| {
        let (weight, sum) = (u128::from(*weight), sum(parts).max(1));
        let part = |part: &u32| {
            // At most 2^32 · 2^32 · 2^31.
            let product = weight * u128::from(*part);
            let value = product * ROUNDED_SUM / (whole * sum);
            u32::try_from(value.max(u128::from(product > 0))).expect("no part is larger than the rounded sum")
        };
        parts.iter().map(part).collect()
    };
    backends.iter().map(row).collect()
}

fn sum(parts: &[u32]) -> u128 {
    parts.iter().map(|part| u128::from(*part)).sum()
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use smallvec::{SmallVec, smallvec};

    use super::{among_others, rounded, weights};

    fn plain(backends: &[(u32, SmallVec<[u32; 1]>)]) -> Vec<Vec<u32>> {
        weights(backends).into_iter().map(SmallVec::into_vec).collect()
    }

    #[test]
    fn single_clusters_keep_the_smallest_weights_of_the_same_proportion() {
        assert_eq!(plain(&[(90, smallvec![1]), (10, smallvec![7])]), [[9], [1]]);
        assert_eq!(plain(&[(1, smallvec![1]), (0, smallvec![1])]), [[1], [0]]);
    }

    #[test]
    fn a_backend_of_several_clusters_keeps_exactly_its_share() {
        // One half for the first backend, split 1:2; one half for the second, split 3:4.
        assert_eq!(plain(&[(1, smallvec![1, 2]), (1, smallvec![3, 4])]), [[7, 14], [9, 12]]);
    }

    #[test]
    fn beside_others_parts_are_whole_and_the_weights_of_others_grow_by_the_same_factor() {
        let beside = |others, backends: &[(u32, SmallVec<[u32; 1]>)]| {
            let (factor, weights) = among_others(others, backends);
            (factor, weights.into_iter().map(SmallVec::into_vec).collect::<Vec<_>>())
        };
        assert_eq!(beside(90, &[(10, smallvec![7])]), (1, vec![vec![10]]));
        assert_eq!(beside(1, &[(4, smallvec![1, 3])]), (1, vec![vec![1, 3]]));
        assert_eq!(beside(1, &[(1, smallvec![1, 2]), (1, smallvec![1, 1])]), (6, vec![vec![2, 4], vec![3, 3]]));
        // A factor of 99991 does not fit beside such a weight.
        assert_eq!(beside(1 << 31, &[(1, smallvec![1, 99_990])]), (1, vec![vec![1, 1]]));
    }

    #[test]
    fn weights_beyond_32_bits_are_rounded_and_keep_a_part_for_everybody() {
        let backends = [(1_000_000, smallvec![1, u32::MAX]), (999_983, smallvec![u32::MAX - 4, 17]), (1, smallvec![1])];
        let weights = plain(&backends);
        assert_eq!(weights, rounded(&backends).into_iter().map(SmallVec::into_vec).collect::<Vec<_>>());
        let total: u64 = weights.iter().flatten().map(|weight| u64::from(*weight)).sum();
        assert!(u32::try_from(total).is_ok());
        assert!(weights.iter().flatten().all(|weight| *weight > 0));
        let first: u64 = weights[0].iter().map(|weight| u64::from(*weight)).sum();
        let share = first as f64 / total as f64;
        assert!((share - 1_000_000.0 / 1_999_984.0).abs() < 1e-6, "{share}");
    }
}
