/// Every key with its default, as `aesp config default` prints it.
pub const DEFAULT_FILE: &str = include_str!("default.toml");
