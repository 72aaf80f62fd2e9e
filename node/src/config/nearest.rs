/// Returns the candidate that `word` was probably meant to be: the one with the fewest edits, if they are few.
pub(super) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    candidates
        .iter()
        .map(|candidate| (edits(word, candidate), *candidate))
        .filter(|(edits, candidate)| *edits <= 2.max(candidate.len() / 3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_slip_and_nothing_in_noise() {
        let keys = ["certificate", "key", "client_ca", "crls"];
        assert_eq!(nearest("certifcate", &keys), Some("certificate"));
        assert_eq!(nearest("client-ca", &keys), Some("client_ca"));
        assert_eq!(nearest("wavelength", &keys), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
