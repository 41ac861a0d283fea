"""Inner solvers, the one inner loop, implicit differentiation and spectra.

Nothing here knows schedules or particular problems: a problem is anything with the functions of
`mepjax.Problem`.
"""
