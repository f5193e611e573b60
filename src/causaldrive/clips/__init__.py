"""What was driven: recording and sample types, the store (Parquet + MP4), importers, resampling, geometry.

Reads: recordings on disk, published data sets. Writes: recordings. Knows nothing of simulators, labels or models.
"""
