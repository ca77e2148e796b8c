//! One sort for everything in the core: a merge sort of small numbers by any order.
//!
//! The standard library's sorts are faster by a third and compiled anew for every type and order: together they would be
//! a twentieth of the package. This one is stable, takes the order as a value, and passes over what is in order already.

use std::cmp::Ordering;

/// Runs up to this length are sorted by insertion.
const RUN: usize = 8;

/// Sorts `items` by `order`; equal items keep their order.
pub fn sort_by(items: &mut [u32], order: &mut dyn FnMut(u32, u32) -> Ordering) {
    let mut sorted = true;
    for pair in items.windows(2) {
        if let [a, b] = pair
            && order(*a, *b) == Ordering::Greater
        {
            sorted = false;
            break;
        }
    }
    if sorted {
        return;
    }
    for run in items.chunks_mut(RUN) {
        for end in 1..run.len() {
            let mut at = end;
            while at > 0 {
                let (Some(&a), Some(&b)) = (run.get(at - 1), run.get(at)) else { break };
                if order(a, b) != Ordering::Greater {
                    break;
                }
                run.swap(at - 1, at);
                at -= 1;
            }
        }
    }
    let mut merged: Vec<u32> = Vec::with_capacity(items.len());
    let mut width = RUN;
    while width < items.len() {
        merged.clear();
        for pair in items.chunks(2 * width) {
            let (left, right) = pair.split_at(width.min(pair.len()));
            merge(left, right, &mut merged, order);
        }
        items.copy_from_slice(&merged);
        width *= 2;
    }
}

/// The numbers from 0 to `count` in the order of what they stand for.
pub fn sorted_indices(count: usize, order: &mut dyn FnMut(usize, usize) -> Ordering) -> Vec<u32> {
    let mut indices = numbers(u32::try_from(count).unwrap_or(u32::MAX));
    sort_by(&mut indices, &mut |a, b| order(a as usize, b as usize));
    indices
}

/// The numbers from 0 up to `end`.
pub fn numbers(end: u32) -> Vec<u32> {
    let mut numbers = Vec::with_capacity(end as usize);
    for number in 0..end {
        numbers.push(number);
    }
    numbers
}

fn merge(mut left: &[u32], mut right: &[u32], out: &mut Vec<u32>, order: &mut dyn FnMut(u32, u32) -> Ordering) {
    // Two runs that are in order already are the rule when little has changed.
    if let (Some(&last), Some(&first)) = (left.last(), right.first())
        && order(last, first) == Ordering::Greater
    {
        while let (Some((&a, rest_left)), Some((&b, rest_right))) = (left.split_first(), right.split_first()) {
            if order(a, b) == Ordering::Greater {
                out.push(b);
                right = rest_right;
            } else {
                out.push(a);
                left = rest_left;
            }
        }
    }
    out.extend_from_slice(left);
    out.extend_from_slice(right);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sorts_stably(items in prop::collection::vec(0_u32..50, 0..300)) {
            // The low bits tell equal items apart.
            let tagged: Vec<u32> = items.iter().enumerate().map(|(index, item)| (item << 16) | index as u32).collect();
            let mut ours = tagged.clone();
            sort_by(&mut ours, &mut |a, b| (a >> 16).cmp(&(b >> 16)));
            let mut theirs = tagged;
            theirs.sort_by_key(|item| item >> 16);
            prop_assert_eq!(ours, theirs);
        }
    }
}
