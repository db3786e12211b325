//! What is done at start: adopting shims, applying journals, sweeping.
