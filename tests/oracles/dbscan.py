"""DBSCAN as printed (Ester et al., KDD 1996), on a dense matrix. Imports nothing of ours."""


def dbscan(distances, eps, min_samples):
    """Cluster of each item in the order of first cores; -1 for noise."""
    total = len(distances)
    near = [[j for j in range(total) if distances[i][j] <= eps or i == j] for i in range(total)]
    labels = [-1] * total

    cluster = 0
    for start in range(total):
        if labels[start] != -1 or len(near[start]) < min_samples:
            continue

        waiting = [start]
        while waiting:
            item = waiting.pop()
            if labels[item] == -1:
                labels[item] = cluster
                if len(near[item]) >= min_samples:  # a border item reaches no further
                    waiting += near[item]
        cluster += 1
    return labels
