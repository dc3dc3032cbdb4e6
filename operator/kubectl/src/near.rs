//! Names that somebody may have meant.

/// Most names that are offered.
const MOST: usize = 3;

/// Names of `there` that are nearly `wanted`, the nearest first.
pub(crate) fn names<'a>(wanted: &str, there: impl Iterator<Item = &'a str>) -> Vec<String> {
    let far = wanted.len().max(3) / 3;
    let mut near: Vec<(usize, &str)> = there
        .filter_map(|name| {
            let away = if name.starts_with(wanted) || wanted.starts_with(name) {
                1
            } else {
                distance(wanted, name)
            };
            (away <= far).then_some((away, name))
        })
        .collect();
    near.sort_unstable();
    near.into_iter().take(MOST).map(|(_, name)| name.to_owned()).collect()
}

/// Letters to insert, remove or replace until both are equal.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (number, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = number + 1;
        for (place, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[place + 1];
            row[place + 1] = replaced.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_near() {
        let there = ["invoice-reader", "invoice-writer", "payroll", "x"];
        let near = |wanted: &str| names(wanted, there.into_iter());
        assert_eq!(near("invoice-raeder"), ["invoice-reader", "invoice-writer"]);
        assert_eq!(near("pyroll"), ["payroll"]);
        assert_eq!(near("invoice"), ["invoice-reader", "invoice-writer"]);
        assert_eq!(near("something-else"), Vec::<String>::new());
    }

    #[test]
    fn distances_are_those_of_the_book() {
        for (left, right, away) in [("kitten", "sitting", 3), ("", "abc", 3), ("same", "same", 0), ("flaw", "lawn", 2)] {
            assert_eq!(distance(left, right), away, "{left} {right}");
        }
    }
}
