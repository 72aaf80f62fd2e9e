use data_encoding::HEXLOWER;

/// Returns the SHA-256 of a certificate in DER, as `openssl x509 -fingerprint -sha256` has it, in lower-case hexadecimal.
pub(crate) fn fingerprint(der: &[u8]) -> String {
    HEXLOWER.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der).as_ref())
}
