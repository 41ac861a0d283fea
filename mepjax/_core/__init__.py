"""Shared foundations: result codes, input checks, arrays, keys, Gibbs maths, pytrees."""
