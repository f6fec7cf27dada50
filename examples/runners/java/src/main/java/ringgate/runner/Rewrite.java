package ringgate.runner;

import com.google.gson.Gson;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.apache.apisix.plugin.runner.HttpRequest;
import org.apache.apisix.plugin.runner.HttpResponse;
import org.apache.apisix.plugin.runner.filter.PluginFilter;
import org.apache.apisix.plugin.runner.filter.PluginFilterChain;
import org.springframework.stereotype.Component;

/**
 * Changes a request: its path, headers, an argument. The runner asks the gateway for the variable
 * and for the body before it calls this, both at once.
 */
@Component
public class Rewrite implements PluginFilter {
    private static final Gson GSON = new Gson();

    private static class Conf {
        String path = "";
    }

    @Override
    public String name() {
        return "rewrite";
    }

    @Override
    public List<String> requiredVars() {
        return List.of("route_id");
    }

    @Override
    public Boolean requiredBody() {
        return true;
    }

    @Override
    public void filter(HttpRequest request, HttpResponse response, PluginFilterChain chain) {
        String body = request.getBody();
        int bytes = body == null ? 0 : body.getBytes(StandardCharsets.UTF_8).length;
        request.setPath(GSON.fromJson(request.getConfig(this), Conf.class).path);
        request.setHeader("X-Route", request.getVars("route_id"));
        request.setHeader("X-Body-Bytes", String.valueOf(bytes));
        request.setHeader("X-Secret", null);
        request.setArg("runner", "Java");
        chain.filter(request, response);
    }
}
