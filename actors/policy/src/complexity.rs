//! Bounds on what is given to Cedar's parser, which recurses with the text: too deep a text would end the process.

/// How deep brackets may nest.
const MAX_DEPTH: usize = 32;
/// How many operators, brackets and conditionals a policy may have: each can be one more level of its tree.
const MAX_OPERATORS: usize = 400;

/// Checks every policy of a text, without understanding it.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    let (mut position, mut depth, mut operators) = (0, 0_usize, 0_usize);
    while position < bytes.len() {
        match bytes[position] {
            b'"' => position = end_of_string(bytes, position),
            b'/' if bytes.get(position + 1) == Some(&b'/') => {
                position += bytes[position..].iter().take_while(|byte| **byte != b'\n').count();
                continue;
            }
            b'(' | b'[' | b'{' => (depth, operators) = (depth + 1, operators + 1),
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            // Between policies only; a semicolon anywhere else is a syntax error, and does not start a new count.
            b';' if depth == 0 => operators = 0,
            b'&' | b'|' | b'+' | b'-' | b'*' | b'!' | b'.' | b'<' | b'>' | b'=' => operators += 1,
            b'i' if bytes[position..].starts_with(b"if") => operators += 1,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("brackets nest deeper than {MAX_DEPTH} levels"));
        }
        if operators > MAX_OPERATORS {
            return Err(format!("a policy has more than {MAX_OPERATORS} operators and brackets; split it"));
        }
        position += 1;
    }
    Ok(())
}

/// Returns the position of the closing quote of the string that starts at `position`.
fn end_of_string(bytes: &[u8], mut position: usize) -> usize {
    position += 1;
    while position < bytes.len() && bytes[position] != b'"' {
        position += if bytes[position] == b'\\' { 2 } else { 1 };
    }
    position
}
