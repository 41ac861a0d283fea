"""What the papers print, as data: each number as it stands there."""

# Autonomy-aware clustering.

# Figure 1: probability of each cluster other than the one told, at K = 4, in panels (b), (c), (d);
# in (c) all centres are at the centroid of the data.
FIGURE_1_OVERRIDES = {"b": 0.0, "c": 0.25, "d": 0.083}

# Figure 4 and appendix E: points, clusters, the probability of an override, and the numbers of
# distinct centres between the transitions.
FIGURE_4_POINTS, FIGURE_4_CLUSTERS, FIGURE_4_KAPPA = 3200, 16, 1 / 16
FIGURE_4_DISTINCT = [1, 4, 8, 16]
