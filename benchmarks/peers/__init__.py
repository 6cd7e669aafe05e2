"""Others that label images, each in its best documented form and an environment of its own.

    python PEER.py IMAGES MODEL OUT

labels every file in the folder IMAGES with the classifier in the folder MODEL and writes
OUT/*.parquet with columns `path` and `label`.
"""
