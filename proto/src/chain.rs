use std::error::Error;

/// Returns an error's text with those of its causes, less what an error before has already said.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::chain;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Outer(&'static str, #[source] io::Error);

    #[test]
    fn causes_follow_unless_they_were_said() {
        let cause = || io::Error::other("the disk is full");
        assert_eq!(chain(&Outer("no snapshot", cause())), "no snapshot: the disk is full");
        assert_eq!(chain(&Outer("no snapshot, the disk is full", cause())), "no snapshot, the disk is full");
    }
}
