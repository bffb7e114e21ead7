//! "Did you mean": the accepted word nearest to one that is not. Never accepts anything.

/// Words longer than this are not compared: the work is quadratic in their length.
const MAX_LENGTH: usize = 64;

/// The candidate that is nearest to `word`, if one is near enough to be what was meant: no more than a third of its
/// characters differ, or it is the same word in another case or number. The first of equals wins.
pub(super) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word: Vec<char> = word.to_lowercase().chars().collect();
    let limit = (word.len() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let chars: Vec<char> = candidate.to_lowercase().chars().collect();
        if chars.len().abs_diff(word.len()) > limit || chars.len().max(word.len()) > MAX_LENGTH {
            continue;
        }
        let distance = distance(&word, &chars);
        // A word of one or two characters is near to nearly everything: it must differ in case only.
        let near = distance == 0 || (distance <= limit && word.len() > 2);
        if near && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours each cost 1.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substitute = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substitute.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let keys = ["listen", "listener", "route", "cluster", "plugin", "plugins", "path", "path_prefix", "GET"];
        for (word, expected) in [
            ("lsiten", Some("listen")),
            ("listeners", Some("listener")),
            ("Cluster", Some("cluster")),
            ("clutser", Some("cluster")),
            ("path-prefix", Some("path_prefix")),
            ("get", Some("GET")),
            ("pa", None),
            ("", None),
            ("upstream", None),
        ] {
            assert_eq!(nearest(word, keys), expected, "{word:?}");
        }
    }
}
