package ringgate.runner;

import java.util.Locale;
import org.apache.apisix.plugin.runner.PostRequest;
import org.apache.apisix.plugin.runner.PostResponse;
import org.apache.apisix.plugin.runner.filter.PluginFilter;
import org.apache.apisix.plugin.runner.filter.PluginFilterChain;
import org.springframework.stereotype.Component;

/** Changes a response: its body in upper case, and a header. */
@Component
public class Respond implements PluginFilter {
    @Override
    public String name() {
        return "respond";
    }

    @Override
    public Boolean requiredRespBody() {
        return true;
    }

    @Override
    public void postFilter(PostRequest request, PostResponse response, PluginFilterChain chain) {
        response.setHeader("X-Runner", "Java");
        response.setBody(request.getBody().toUpperCase(Locale.ROOT));
        chain.postFilter(request, response);
    }
}
