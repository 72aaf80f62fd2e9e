//! rust.
