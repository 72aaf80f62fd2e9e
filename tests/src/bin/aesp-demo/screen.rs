use std::io::{self, Write};

/// Shows a line to people. With nobody looking, the steps are taken all the same.
pub(crate) fn say(line: &str) {
    drop(writeln!(io::stdout().lock(), "{line}"));
}

/// Shortens what a tool said to one line of the screen.
pub(crate) fn short(text: &str) -> String {
    let flat: Vec<&str> = text.split_whitespace().collect();
    let flat = flat.join(" ");
    let cut: String = flat.chars().filter(|c| !c.is_control()).take(100).collect();
    if cut.len() < flat.len() { format!("{cut}…") } else { cut }
}
