#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| aesp_runtime::fuzzing::runtime_frames(bytes));
