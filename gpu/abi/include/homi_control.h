/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Made by `cargo run -p homi-abi --example c_header`; do not edit. */
#ifndef HOMI_CONTROL_H
#define HOMI_CONTROL_H

#include <sys/ioctl.h>

/*
 * A control request on an open .homi/control, at most N bytes with its closing NUL, N at most 16383.
 * The buffer of N bytes holds one JSON object and gets one, filled up with NULs.
 */
#define HOMI_IOC_CONTROL(N) _IOC(_IOC_READ | _IOC_WRITE, 'H', 1, N)

#endif
