"""The service's vocabulary: ids, ARNs, sizes, states, errors. Imports nothing else of ours."""
