#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| aesp_merkle::fuzzing::witness(bytes));
