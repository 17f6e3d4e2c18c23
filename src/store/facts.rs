//! Sets of facts: sorted, shared, and summed up part by part.
//!
//! A set is a tree whose shape depends on what is in it and not on how it came there: a fact's own mark decides whether a node
//! ends behind it. So equal sets have equal sums, on every replica and after every restart, though a sum is made of the sums of
//! the nodes. A copy costs nothing; one fact more or less costs the nodes above it, and so does the next sum: all others keep
//! theirs.

use std::{
    cmp::Ordering,
    sync::{Arc, OnceLock},
};

/// Something that outputs state, and that is looked up and summed up in sets.
pub trait Fact: Clone + Ord {
    /// What many facts come to, in order.
    type Sum: Clone;

    /// Evenly distributed bits; facts with equal content have equal ones on every replica.
    fn mark(&self) -> u64;

    /// What this one alone comes to.
    fn sum(&self) -> Self::Sum;

    /// Makes one sum of several.
    fn join<'a>(sums: impl Iterator<Item = &'a Self::Sum>) -> Self::Sum
    where
        Self::Sum: 'a;
}

/// For programs whose outputs state nothing.
impl Fact for () {
    type Sum = ();

    fn mark(&self) -> u64 {
        1
    }

    fn sum(&self) {}

    fn join<'a>(_: impl Iterator<Item = &'a ()>) {}
}

/// One in so many facts ends a node, one in so many nodes the node above it, and so on: 2 to the power of this.
const BITS: u32 = 3;

/// A set of facts, each with the number of times it was put in.
#[derive(Clone)]
pub struct FactSet<F: Fact> {
    /// A leaf, or a node with at least two below it.
    root: Option<Arc<Node<F>>>,
}

struct Node<F: Fact> {
    below: Below<F>,
    len: usize,
    sum: OnceLock<F::Sum>,
}

/// What a node holds is never empty. Nodes of one height hold what follows each other; each ends behind the first fact whose
/// height is above its own, or at the end of all.
#[derive(Clone)]
enum Below<F: Fact> {
    Facts(Vec<(F, u32)>),
    Nodes {
        nodes: Vec<Arc<Node<F>>>,
        last: F,
        /// 1 above leaves.
        height: u32,
    },
}

type Link<F> = Option<Arc<Node<F>>>;

/// Up to which height a fact ends nodes: 0 for most, which end none.
fn height_of<F: Fact>(fact: &F) -> u32 {
    fact.mark().trailing_zeros() / BITS
}

impl<F: Fact> Default for FactSet<F> {
    fn default() -> Self {
        Self { root: None }
    }
}

impl<F: Fact> FactSet<F> {
    /// How many different facts there are.
    pub fn len(&self) -> usize {
        self.root.as_ref().map_or(0, |root| root.len)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The facts in order.
    pub fn iter(&self) -> Iter<'_, F> {
        let mut iter = Iter { facts: [].iter(), nodes: Vec::new() };
        if let Some(root) = &self.root {
            iter.descend(root);
        }
        iter
    }

    /// The first fact that is not below a place among them, of which `place` tells the order of a fact.
    pub fn first_from(&self, place: impl Fn(&F) -> Ordering) -> Option<&F> {
        let mut node = self.root.as_deref()?;
        loop {
            match &node.below {
                Below::Facts(facts) => {
                    let at = facts.partition_point(|(fact, _)| place(fact).is_lt());
                    return facts.get(at).map(|(fact, _)| fact);
                }
                Below::Nodes { nodes, .. } => {
                    node = nodes.get(nodes.partition_point(|node| place(node.last()).is_lt()))?;
                }
            }
        }
    }

    /// Whether this fact is there.
    pub fn contains(&self, fact: &F) -> bool {
        self.first_from(|other| other.cmp(fact)).is_some_and(|found| found == fact)
    }

    /// What all facts come to. Costs what changed since the sets that this one was made from were asked.
    pub fn sum(&self) -> F::Sum {
        match &self.root {
            Some(root) => root.sum().clone(),
            None => F::join([].iter()),
        }
    }

    /// Puts a fact in; answers whether it is new.
    pub fn insert(&mut self, fact: F) -> bool {
        if self.contains(&fact) {
            self.root.as_mut().expect("it holds the fact").recount(&fact, |count| count + 1);
            return false;
        }
        match &mut self.root {
            // The new one ends nothing, and stands before something: no other fact moves to another node.
            Some(root) if height_of(&fact) == 0 && fact < *root.last() => root.insert(fact),
            root => {
                let (before, after) = split(root.take(), &fact);
                let alone = Node::leaf(vec![(fact, 1)]);
                *root = concat(concat(before, alone), after);
            }
        }
        true
    }

    /// Takes a fact out once; answers whether it is gone.
    pub fn remove(&mut self, fact: &F) -> bool {
        let Some(root) = self.root.as_mut().filter(|root| root.find(fact).is_some()) else { return false };
        if root.find(fact).is_some_and(|count| count > 1) {
            root.recount(fact, |count| count - 1);
            return false;
        }
        if height_of(fact) > 0 || !root.remove(fact) {
            let (before, after) = split(self.root.take(), fact);
            self.root = concat(before, after);
        }
        true
    }
}

impl<F: Fact> Clone for Node<F> {
    fn clone(&self) -> Self {
        Self { below: self.below.clone(), len: self.len, sum: self.sum.clone() }
    }
}

impl<F: Fact> Node<F> {
    fn leaf(facts: Vec<(F, u32)>) -> Link<F> {
        let len = facts.len();
        (len > 0).then(|| Arc::new(Self { below: Below::Facts(facts), len, sum: OnceLock::new() }))
    }

    fn above(nodes: Vec<Arc<Self>>) -> Link<F> {
        let last = nodes.last()?;
        let (last, height) = (last.last().clone(), last.height() + 1);
        let len = nodes.iter().map(|node| node.len).sum();
        Some(Arc::new(Self { below: Below::Nodes { nodes, last, height }, len, sum: OnceLock::new() }))
    }

    fn height(&self) -> u32 {
        match &self.below {
            Below::Facts(_) => 0,
            Below::Nodes { height, .. } => *height,
        }
    }

    fn last(&self) -> &F {
        match &self.below {
            Below::Facts(facts) => &facts.last().expect("no node is empty").0,
            Below::Nodes { last, .. } => last,
        }
    }

    fn sum(&self) -> &F::Sum {
        self.sum.get_or_init(|| match &self.below {
            Below::Facts(facts) => {
                let sums: Vec<F::Sum> = facts.iter().map(|(fact, _)| fact.sum()).collect();
                F::join(sums.iter())
            }
            Below::Nodes { nodes, .. } => F::join(nodes.iter().map(|node| node.sum())),
        })
    }

    /// How often a fact was put in.
    fn find(&self, fact: &F) -> Option<u32> {
        match &self.below {
            Below::Facts(facts) => {
                facts.binary_search_by(|(other, _)| other.cmp(fact)).ok().map(|place| facts[place].1)
            }
            Below::Nodes { nodes, .. } => nodes.get(place_of(nodes, fact))?.find(fact),
        }
    }

    /// Counts anew how often a fact that is here was put in.
    fn recount(self: &mut Arc<Self>, fact: &F, count: impl Fn(u32) -> u32) {
        match &mut Arc::make_mut(self).below {
            Below::Facts(facts) => {
                let place = facts.binary_search_by(|(other, _)| other.cmp(fact)).expect("the fact is here");
                facts[place].1 = count(facts[place].1);
            }
            Below::Nodes { nodes, .. } => {
                let place = place_of(nodes, fact);
                nodes[place].recount(fact, count);
            }
        }
    }

    /// Puts a new fact that ends no node before one that is here.
    fn insert(self: &mut Arc<Self>, fact: F) {
        let node = Arc::make_mut(self);
        node.sum.take();
        node.len += 1;
        match &mut node.below {
            Below::Facts(facts) => {
                let place = facts.partition_point(|(other, _)| *other < fact);
                facts.insert(place, (fact, 1));
            }
            Below::Nodes { nodes, .. } => {
                let place = place_of(nodes, &fact);
                nodes[place].insert(fact);
            }
        }
    }

    /// Takes out a fact that is here and ends no node, unless its leaf has no other.
    fn remove(self: &mut Arc<Self>, fact: &F) -> bool {
        let node = Arc::make_mut(self);
        match &mut node.below {
            Below::Facts(facts) if facts.len() == 1 => return false,
            Below::Facts(facts) => facts.retain(|(other, _)| other != fact),
            Below::Nodes { nodes, last, .. } => {
                let place = place_of(nodes, fact);
                if !nodes[place].remove(fact) {
                    return false;
                }
                if last == fact {
                    *last = nodes[place].last().clone();
                }
            }
        }
        node.sum.take();
        node.len -= 1;
        true
    }
}

/// The place of the node that a fact belongs into, if it is not behind them all.
fn place_of<F: Fact>(nodes: &[Arc<Node<F>>], fact: &F) -> usize {
    nodes.partition_point(|node| node.last() < fact)
}

/// What stands before a fact, and what behind it.
fn split<F: Fact>(root: Link<F>, fact: &F) -> (Link<F>, Link<F>) {
    let Some(root) = root else { return (None, None) };
    let (before, after) = split_node(root, fact);
    (lowered(before), lowered(after))
}

/// The same, both parts as high as the node.
fn split_node<F: Fact>(node: Arc<Node<F>>, fact: &F) -> (Link<F>, Link<F>) {
    match Arc::unwrap_or_clone(node).below {
        Below::Facts(mut facts) => {
            let mut after = facts.split_off(facts.partition_point(|(other, _)| other < fact));
            if after.first().is_some_and(|(first, _)| first == fact) {
                after.remove(0);
            }
            (Node::leaf(facts), Node::leaf(after))
        }
        Below::Nodes { mut nodes, .. } => {
            let mut after = nodes.split_off(place_of(&nodes, fact));
            if !after.is_empty() {
                let (left, right) = split_node(after.remove(0), fact);
                nodes.extend(left);
                after.splice(0..0, right);
            }
            (Node::above(nodes), Node::above(after))
        }
    }
}

/// One after the other.
fn concat<F: Fact>(before: Link<F>, after: Link<F>) -> Link<F> {
    let (mut before, mut after) = match (before, after) {
        (Some(before), Some(after)) => (before, after),
        (one, other) => return one.or(other),
    };
    // So high that the first does not end by itself.
    let height = before.height().max(after.height()).max(height_of(before.last()));
    for side in [&mut before, &mut after] {
        while side.height() < height {
            *side = Node::above(vec![Arc::clone(side)]).expect("one node is not none");
        }
    }
    let (all, rest) = concat_nodes(before, after);
    debug_assert!(rest.is_none());
    lowered(Some(all))
}

/// The same of two nodes of equal height: one such node if the first does not end by itself.
fn concat_nodes<F: Fact>(before: Arc<Node<F>>, after: Arc<Node<F>>) -> (Arc<Node<F>>, Link<F>) {
    if height_of(before.last()) > before.height() {
        return (before, Some(after));
    }
    let joined = match (Arc::unwrap_or_clone(before).below, Arc::unwrap_or_clone(after).below) {
        (Below::Facts(mut facts), Below::Facts(more)) => {
            facts.extend(more);
            Node::leaf(facts)
        }
        (Below::Nodes { mut nodes, .. }, Below::Nodes { nodes: more, .. }) => {
            let mut more = more.into_iter();
            let (last, first) = (nodes.pop(), more.next());
            let (last, first) = last.zip(first).expect("no node is empty");
            let (one, other) = concat_nodes(last, first);
            nodes.push(one);
            nodes.extend(other);
            nodes.extend(more);
            Node::above(nodes)
        }
        _ => unreachable!("both are of one height"),
    };
    (joined.expect("neither was empty"), None)
}

/// A root without the nodes that have but one below them.
fn lowered<F: Fact>(root: Link<F>) -> Link<F> {
    let mut root = root?;
    while let Below::Nodes { nodes, .. } = &root.below
        && let [only] = nodes.as_slice()
    {
        root = Arc::clone(only);
    }
    Some(root)
}

/// The facts of a set in order.
pub struct Iter<'a, F: Fact> {
    facts: std::slice::Iter<'a, (F, u32)>,
    /// What comes behind them, the next last.
    nodes: Vec<std::slice::Iter<'a, Arc<Node<F>>>>,
}

impl<'a, F: Fact> Iter<'a, F> {
    fn descend(&mut self, mut node: &'a Node<F>) {
        loop {
            match &node.below {
                Below::Facts(facts) => {
                    self.facts = facts.iter();
                    return;
                }
                Below::Nodes { nodes, .. } => {
                    let mut rest = nodes.iter();
                    node = rest.next().expect("no node is empty");
                    self.nodes.push(rest);
                }
            }
        }
    }
}

impl<'a, F: Fact> Iterator for Iter<'a, F> {
    type Item = &'a F;

    fn next(&mut self) -> Option<&'a F> {
        loop {
            if let Some((fact, _)) = self.facts.next() {
                return Some(fact);
            }
            match self.nodes.last_mut()?.next() {
                Some(node) => self.descend(node),
                None => drop(self.nodes.pop()),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A number that sums up to a list of itself; how the list was put together shows in its brackets.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Number(u16);

    impl Fact for Number {
        type Sum = String;

        fn mark(&self) -> u64 {
            xxhash_rust::xxh3::xxh3_64(&self.0.to_le_bytes())
        }

        fn sum(&self) -> String {
            self.0.to_string()
        }

        fn join<'a>(sums: impl Iterator<Item = &'a String>) -> String {
            format!("({})", sums.cloned().collect::<Vec<_>>().join(" "))
        }
    }

    fn set_of(numbers: impl Iterator<Item = u16>) -> FactSet<Number> {
        let mut set = FactSet::default();
        for number in numbers {
            set.insert(Number(number));
        }
        set
    }

    /// Every node's length and last fact are those of what is below it, and no root is higher than need be.
    fn check(node: &Node<Number>, is_root: bool) {
        let Below::Nodes { nodes, last, height } = &node.below else { return };
        assert!(!is_root || nodes.len() > 1);
        assert_eq!((node.len, last), (nodes.iter().map(|node| node.len).sum(), nodes.last().unwrap().last()));
        assert!(nodes.iter().all(|node| node.height() + 1 == *height));
        nodes.iter().for_each(|node| check(node, false));
    }

    proptest! {
        #[test]
        fn a_set_is_what_was_put_in_and_not_taken_out_and_equal_ones_have_equal_sums(
            steps in proptest::collection::vec((0..600_u16, any::<bool>(), any::<bool>()), 0..800)
        ) {
            let mut model = BTreeMap::<u16, u32>::new();
            let mut set = FactSet::default();
            let mut old = Vec::new();
            for (number, puts_in, keeps) in steps {
                let fact = Number(number);
                let count = model.get(&number).copied().unwrap_or_default();
                if puts_in {
                    prop_assert_eq!(set.insert(fact), count == 0);
                    model.insert(number, count + 1);
                } else {
                    prop_assert_eq!(set.remove(&fact), count == 1);
                    match count {
                        0 | 1 => drop(model.remove(&number)),
                        _ => drop(model.insert(number, count - 1)),
                    }
                }
                if keeps {
                    old.push((set.clone(), set.sum()));
                }
            }
            let numbers: Vec<u16> = set.iter().map(|fact| fact.0).collect();
            prop_assert_eq!(&numbers, &model.keys().copied().collect::<Vec<_>>());
            prop_assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
            if let Some(root) = &set.root {
                check(root, true);
            }
            for number in 0..600 {
                prop_assert_eq!(set.contains(&Number(number)), model.contains_key(&number));
                let from = set.first_from(|fact| fact.0.cmp(&number)).map(|fact| fact.0);
                prop_assert_eq!(from, model.range(number..).next().map(|(number, _)| *number));
            }
            prop_assert_eq!(set.sum(), set_of(numbers.iter().rev().copied()).sum());
            // What was copied is as it was.
            for (copy, sum) in old {
                prop_assert_eq!(copy.sum(), sum.clone());
                prop_assert_eq!(set_of(copy.iter().map(|fact| fact.0)).sum(), sum);
            }
        }
    }

    #[test]
    fn a_change_among_many_leaves_most_nodes_as_they_are() {
        fn nodes(node: &Arc<Node<Number>>, all: &mut Vec<*const Node<Number>>) {
            all.push(Arc::as_ptr(node));
            if let Below::Nodes { nodes: below, .. } = &node.below {
                below.iter().for_each(|node| nodes(node, all));
            }
        }
        let set = set_of(0..10_000);
        let mut old = Vec::new();
        nodes(set.root.as_ref().unwrap(), &mut old);
        old.sort_unstable();
        let most = (0..10_000).step_by(37).map(|number| {
            let mut next = set.clone();
            next.remove(&Number(number));
            let mut new = Vec::new();
            nodes(next.root.as_ref().unwrap(), &mut new);
            new.iter().filter(|node| old.binary_search(node).is_err()).count()
        });
        assert!(most.max().unwrap() < 40, "of {} nodes", old.len());
    }
}
