"""The digest over pairs that every reader must agree on."""

import hashlib


def summary(pairs):
    """Returns number and digest of (uid, caption, width, height) tuples; a missing caption counts as an empty one."""
    lines = sorted(f"{uid}\t{caption or ''}\t{width}\t{height}\n" for uid, caption, width, height in pairs)
    return {"rows": len(lines), "digest": hashlib.sha256("".join(lines).encode()).hexdigest()}
