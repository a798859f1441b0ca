//! Threads for what cannot be waited for by parking: calls that block and know no better.
