//! What an archive must do: give back every version exactly, go on where it was cut off, and find whatever is not as it was
//! written.

#![expect(clippy::unwrap_used, reason = "a test that can not go on fails")]
#![expect(clippy::print_stdout, reason = "seeds are printed")]

mod azure;
mod bad_input;
mod everything;
mod fixture;
mod journal;
mod model;
mod s3;
mod writers;
