"""What whoever runs the bus needs: logins, the server's configuration, the stream of events and its consumers.

`python -m odea_runtime.busadmin` in any image of Odea; `odea bus` is the same.
"""
