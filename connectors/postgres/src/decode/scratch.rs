//! Reused buffers for elements that must be unescaped before they are decoded.

use std::cell::RefCell;

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Buffers that grew larger than this are not kept.
const KEEP_BYTES: usize = 64 * 1024;
/// As many buffers are kept as types are commonly nested.
const KEEP_BUFFERS: usize = 8;

/// Runs `work` with an empty buffer of this thread. Nesting is fine: each call has its own.
pub(super) fn with_buffer<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut buffer = POOL
        .with(|pool| pool.try_borrow_mut().ok().and_then(|mut pool| pool.pop()))
        .unwrap_or_default();
    let result = work(&mut buffer);
    if buffer.capacity() <= KEEP_BYTES {
        buffer.clear();
        POOL.with(|pool| {
            if let Ok(mut pool) = pool.try_borrow_mut()
                && pool.len() < KEEP_BUFFERS
            {
                pool.push(buffer);
            }
        });
    }
    result
}
