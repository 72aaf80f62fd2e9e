//! Real handshakes over loopback, with certificates of a development authority and a clock that the test owns.

mod acceptance;
mod change;
mod fixture;
