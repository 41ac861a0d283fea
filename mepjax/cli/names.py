"""The names of the files that the commands write."""

CLUSTER = ("centres.csv", "assignments.csv", "report.json", "report.html", "clusters.png")
CLUSTER_MAP = ("centres.geojson", "assignments.geojson")
CLUSTER_FILM = ("anneal.gif",)

ROUTE = ("facilities.csv", "routes.csv", "report.json", "report.html", "routes.png")
ROUTE_MAP = ("facilities.geojson", "routes.geojson")

# Results of two runs, of whichever command, are never mixed in one folder.
EVERY = tuple(dict.fromkeys(CLUSTER + CLUSTER_MAP + CLUSTER_FILM + ROUTE + ROUTE_MAP))
