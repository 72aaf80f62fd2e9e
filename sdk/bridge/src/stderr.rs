//! What a child writes to standard error, into our log.

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tracing::info;

const LINE_BYTES: usize = 4096;

/// Logs each line, cut at 4 KiB, until the stream ends.
pub(crate) async fn log(stream: impl AsyncRead + Unpin, program: String) {
    let mut lines = Lines::new(BufReader::new(stream));
    while let Some((line, cut)) = lines.next().await {
        info!(program, line, cut, "mcp server wrote to standard error");
    }
}

struct Lines<R> {
    reader: R,
}

impl<R: AsyncBufReadExt + Unpin> Lines<R> {
    fn new(reader: R) -> Self {
        Self { reader }
    }

    /// Returns the next line, and whether it was cut. Holds one buffer at most, however long the line is.
    async fn next(&mut self) -> Option<(String, bool)> {
        let mut line = Vec::new();
        let mut length = 0;
        loop {
            let buffer = self.reader.fill_buf().await.ok()?;
            if buffer.is_empty() {
                if length == 0 {
                    return None;
                }
                break;
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            length += part.len();
            line.extend_from_slice(&part[..part.len().min(LINE_BYTES - line.len())]);
            let consumed = end.map_or(buffer.len(), |end| end + 1);
            self.reader.consume(consumed);
            if end.is_some() {
                break;
            }
        }
        Some((String::from_utf8_lossy(&line).trim_end().to_owned(), length > LINE_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_bounded() {
        let mut text = b"one\n\n".to_vec();
        text.extend(vec![b'x'; 100_000]);
        text.extend(b"\nlast \xff");
        let mut lines = Lines::new(BufReader::new(text.as_slice()));
        assert_eq!(lines.next().await, Some(("one".to_owned(), false)));
        assert_eq!(lines.next().await, Some((String::new(), false)));
        assert_eq!(lines.next().await, Some(("x".repeat(LINE_BYTES), true)));
        assert_eq!(lines.next().await, Some(("last \u{fffd}".to_owned(), false)));
        assert_eq!(lines.next().await, None);
    }
}
