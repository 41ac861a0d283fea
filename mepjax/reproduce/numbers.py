"""What the papers print, as data: each number as it stands there."""

# Autonomy-aware clustering.

# Figure 1: probability of each cluster other than the one told, at K = 4, in panels (b), (c), (d);
# in (c) all centres are at the centroid of the data.
FIGURE_1_OVERRIDES = {"b": 0.0, "c": 0.25, "d": 0.083}

# Figure 4 and appendix E: points, clusters, the probability of an override, and the numbers of
# distinct centres between the transitions.
FIGURE_4_POINTS, FIGURE_4_CLUSTERS, FIGURE_4_KAPPA = 3200, 16, 1 / 16
FIGURE_4_DISTINCT = [1, 4, 8, 16]

# Clustered control of transition-independent MDPs.

# Figure 3: mean number of full sweeps of the hybrid for C = 1..7.
CVI_FIGURE_3 = [2, 3.12, 3.36, 3.70, 3.87, 4.0, 4]
# Section 6.1: VI over CVI at C = 7 (VI on the joint kernel; the paper has no split sweeps), and the
# time at C = 7 over that at C = 1 of CVI and of VI.
CVI_TIMES = [620, None, 1.2, 825]
# Figure 5: ||V*|| over that at C = 6, both scenarios.
CVI_FIGURE_5 = [
    [0.840, 0.975, 0.995, 0.999, 0.999, 1],
    [0.882, 0.984, 0.993, 0.999, 0.999, 1],
]
