//! Tests of verdicts on made-up measurements.
