"""The models registered with fairseq.

fairseq itself imports every module in the folder ``models`` of a --user-dir.
"""
