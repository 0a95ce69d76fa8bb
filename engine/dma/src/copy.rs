//! Copies that the compiler knows nothing about.
//!
//! Memory shared with a device changes under our hands. A plain `memcpy` of it would be a data race, which the
//! language does not allow; atomics a word at a time would take several times as long. An instruction that the
//! compiler cannot look into does what the hardware does: it copies whatever is there.

/// Copies `length` bytes.
///
/// # Safety
/// Both ranges must be mapped, the source for reading and the target for writing, and they must not overlap.
#[inline]
pub(crate) unsafe fn bytes(source: *const u8, target: *mut u8, length: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: The caller answers for the ranges; the direction flag is clear by the calling convention.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") length => _,
            inout("rsi") source => _,
            inout("rdi") target => _,
            options(nostack, preserves_flags)
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    for at in 0..length {
        // SAFETY: The caller answers for the ranges; a byte is always aligned.
        unsafe { target.add(at).write_volatile(source.add(at).read_volatile()) };
    }
}

/// Sets `length` bytes to `byte`.
///
/// # Safety
/// The range must be mapped for writing.
#[inline]
pub(crate) unsafe fn fill(target: *mut u8, byte: u8, length: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: The caller answers for the range; the direction flag is clear by the calling convention.
    unsafe {
        std::arch::asm!(
            "rep stosb",
            inout("rcx") length => _,
            inout("rdi") target => _,
            in("al") byte,
            options(nostack, preserves_flags)
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    for at in 0..length {
        // SAFETY: The caller answers for the range.
        unsafe { target.add(at).write_volatile(byte) };
    }
}
