use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use super::failure::Failure;

/// Reads a file, or standard input for `-`.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let read = if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    read.map_err(|error| {
        Failure::usage(format!("can't read {}: {error}", path.display()), "name a file that exists")
    })
}

/// Reads text in UTF-8.
pub(crate) fn text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(bytes(path)?)
        .map_err(|_| Failure::usage(format!("{} is not UTF-8", path.display()), "convert it to UTF-8"))
}
