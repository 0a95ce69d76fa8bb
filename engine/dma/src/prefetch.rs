//! Asking for a cache line before it is needed.

/// A function that asks for the line of a word by one instruction, as x86-64 and as AArch64 name it.
macro_rules! asks {
    ($(#[$doc:meta])* $name:ident, $x86_64:literal, $aarch64:literal) => {
        $(#[$doc])*
        #[cfg_attr(
            any(target_arch = "x86_64", target_arch = "aarch64"),
            expect(
                clippy::pointers_in_nomem_asm_block,
                reason = "a prefetch neither reads nor writes for the program"
            )
        )]
        #[inline(always)]
        pub fn $name<T>(word: &T) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: A prefetch changes neither memory nor registers, and the address is that of a live reference.
            unsafe {
                std::arch::asm!(concat!($x86_64, " [{}]"), in(reg) std::ptr::from_ref(word), options(nomem, nostack, preserves_flags));
            }
            #[cfg(target_arch = "aarch64")]
            // SAFETY: As above.
            unsafe {
                std::arch::asm!(concat!("prfm ", $aarch64, ", [{}]"), in(reg) std::ptr::from_ref(word), options(nomem, nostack, preserves_flags));
            }
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            let _ = word;
        }
    };
}

asks! {
    /// Asks for the cache line of `word` in order to write to it soon. The line then comes from another core's cache while
    /// this core does something else, however many stores wait in between. Has no effect but on time; does nothing on
    /// processors that have no such instruction.
    write_soon, "prefetchw", "pstl1keep"
}

asks! {
    /// Asks for the cache line of `word` in order to read it soon; otherwise as [`write_soon`].
    read_soon, "prefetcht0", "pldl1keep"
}

asks! {
    /// Asks for the cache line of `word` in order to read it a little later: it comes into the second cache, for which more
    /// lines can be under way than for the first, so that asking for many keeps nothing else waiting. Otherwise as
    /// [`read_soon`].
    read_later, "prefetcht1", "pldl2keep"
}
