//! `compress` and `uncompress`: zlib's functions of these names.

use super::super::abi::Status;
use super::BYTES_MAX;
use flate2::Compression;
use flate2::bufread::{ZlibDecoder, ZlibEncoder};
use std::io::Read;

/// The argument as one zlib stream, at zlib's default level.
pub(super) fn compress(args: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    if args.len() > BYTES_MAX {
        return Err(Status::SerializationFailure);
    }
    let compressed = ZlibEncoder::new(args, Compression::default()).read_to_end(out);
    compressed.map(|_| ()).map_err(|_| Status::SerializationFailure)
}

/// What was compressed. As in zlib, bytes behind the stream do not count, and one that is cut off
/// is an error.
pub(super) fn uncompress(args: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    let mut bounded = ZlibDecoder::new(args).take(BYTES_MAX as u64 + 1);
    match bounded.read_to_end(out) {
        Ok(len) if len <= BYTES_MAX => Ok(()),
        _ => Err(Status::SerializationFailure),
    }
}
