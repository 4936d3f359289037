//! Bounded lines from a socket whose peer is not trusted.

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A whole line without its line feed.
    Whole(Vec<u8>),
    /// A line longer than the limit: read to its end and dropped.
    TooLong {
        /// Its length in bytes.
        bytes: u64,
    },
    /// The peer closed; a rest without a line feed is in here.
    End(Vec<u8>),
}

/// Reads one line of at most `limit` bytes; memory stays bounded whatever the peer sends.
pub(crate) async fn next_line<R: AsyncBufRead + Unpin>(
    reader: &mut R,
    limit: usize,
) -> std::io::Result<Line> {
    let mut line = Vec::new();
    let mut dropped: u64 = 0;
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(if dropped > 0 { Line::TooLong { bytes: dropped } } else { Line::End(line) });
        }
        let end = chunk.iter().position(|b| *b == b'\n');
        let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
        if dropped > 0 || line.len() + part.len() > limit {
            dropped += (line.len() + part.len()) as u64;
            line.clear();
        } else {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            return Ok(if dropped > 0 { Line::TooLong { bytes: dropped } } else { Line::Whole(line) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_lines_are_dropped_and_the_next_is_whole() {
        let mut wire: &[u8] = b"short\nmuch too long\nok\nrest";
        let mut read = async || next_line(&mut wire, 5).await.unwrap();
        assert_eq!(read().await, Line::Whole(b"short".to_vec()));
        assert_eq!(read().await, Line::TooLong { bytes: 13 });
        assert_eq!(read().await, Line::Whole(b"ok".to_vec()));
        assert_eq!(read().await, Line::End(b"rest".to_vec()));
    }
}
